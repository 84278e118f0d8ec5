"""A conversation through the client that openapi-python-client makes of /openapi.json, as the package `client`.

Usage: conversation.py <address> <token of alice> <token of bob>. Prints one JSON line.
"""

import json
import sys

from client import AuthenticatedClient
from client.api.chats import create_chat, get_chat, list_chats
from client.api.members import update_member
from client.api.messages import edit_message, list_messages, send_message
from client.api.people import get_me
from client.models import Message, MessageChange, NewChat, NewMessage, ProblemDetails, RoleChange
from client.models.member_role import MemberRole

address, alice, bob = sys.argv[1:]
here = AuthenticatedClient(base_url=address, token=alice)
there = AuthenticatedClient(base_url=address, token=bob)


def checked(kind, answer):
    """The answer, if it is what is expected."""
    assert isinstance(answer, kind), answer
    return answer


me = get_me.sync(client=there)
chat = create_chat.sync(client=here, body=NewChat(name='Lunch', member_ids=[me.user_id]))
chat_id = chat.chat_id
sent = checked(Message, send_message.sync(
    chat_id, client=here, body=NewMessage(content='Noon?'), idempotency_key=f'once-{chat_id}'))
asked = list_messages.sync(chat_id, client=there).messages[0]
answer = NewMessage(content='Yes', parent_message_id=asked.message_id)
checked(Message, send_message.sync(chat_id, client=there, body=answer))
refusal = checked(ProblemDetails, update_member.sync(
    chat_id, me.user_id, client=there, body=RoleChange(role=MemberRole.ADMIN)))
assert refusal.code == 'forbidden', refusal
edited = checked(Message, edit_message.sync(
    chat_id, sent.message_id, client=here, body=MessageChange(content='Half past twelve?')))
refused = checked(ProblemDetails, get_chat.sync('nowhere', client=here))
print(json.dumps({
    'said': [message.content for message in list_messages.sync(chat_id, client=here).messages],
    'edited': edited.edited_at is not None,
    'unread': list_chats.sync(client=here).chats[0].unread_count,
    'refused': refused.code,
}))
