-- Senders go from service to service and pass by those that nothing can be sent to.
CREATE INDEX notify_task_service ON notify_task (service, is_bulk, due_at) WHERE kind <> 'group';
-- Large chats are few among many pushes.
CREATE INDEX notify_task_group ON notify_task (due_at) WHERE kind = 'group';
