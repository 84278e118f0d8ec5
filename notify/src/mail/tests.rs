use std::collections::BTreeMap;

use runtime::Secret;

use super::*;
use crate::languages::Languages;

fn config() -> MailConfig {
    MailConfig {
        brand: "Waltalkie".into(),
        from_name: "Waltalkie".into(),
        from_address: "chat@chat.example".into(),
        home: "https://chat.example/".into(),
        settings: Some("https://chat.example/#/settings".into()),
        content: ContentMode::Full,
    }
}

fn mailer(config: MailConfig) -> Mailer {
    let secret = Secret::new("0123456789abcdef0123456789abcdef");
    let links = Unsubscribe::new("https://chat.example/unsubscribe", &[secret], false).unwrap();
    Mailer::new(config, Templates::built_in().unwrap(), Some(links))
}

fn message<'a>(sender: &'a str, text: &'a str) -> MessageContent<'a> {
    // 13:03 in Berlin.
    MessageContent { sender, text, sent_at_ms: 1_768_478_580_000 }
}

fn content(chats: Vec<ChatContent<'_>>) -> DigestContent<'_> {
    DigestContent {
        id: "abc",
        user_id: "u-carol",
        name: Some("Carol"),
        address: "carol@mail.example",
        language: Language::EN,
        content: ContentMode::Full,
        time_zone: Some("Europe/Berlin"),
        chats,
    }
}

fn two_chats() -> Vec<ChatContent<'static>> {
    vec![
        ChatContent {
            name: "Team",
            link: "https://chat.example/#/chats/team-1",
            count: 7,
            messages: vec![message("Alice", "Lunch at noon?"), message("Bob", "Yes <b>please</b> & thanks")],
        },
        ChatContent {
            name: "Dave",
            link: "https://chat.example/#/chats/dm-1",
            count: 1,
            messages: vec![message("Dave", "Foto")],
        },
    ]
}

#[test]
fn english_reads_well_without_html() {
    let mail = mailer(config()).digest(&content(two_chats()), 1_768_480_000_000).unwrap();
    assert_eq!(mail.subject, "8 unread messages in Waltalkie");
    let link = mail.text.lines().last().unwrap().rsplit(' ').next().unwrap().to_owned();
    assert!(link.starts_with("https://chat.example/unsubscribe?token=v1."));
    assert_eq!(
        mail.text.replace(&link, "[link]"),
        "\
Hello Carol,

you have 8 unread messages in Waltalkie.

Team (7)
  Alice, 15 Jan 2026, 13:03: Lunch at noon?
  Bob, 15 Jan 2026, 13:03: Yes <b>please</b> & thanks
  and 5 more
  https://chat.example/#/chats/team-1

Dave (1)
  Dave, 15 Jan 2026, 13:03: Foto
  https://chat.example/#/chats/dm-1

Open Waltalkie: https://chat.example/

--\x20
You get this mail because notifications by mail are on.
Settings: https://chat.example/#/settings
No more of these mails: [link]"
    );
}

#[test]
fn german_and_one_message() {
    let mut chats = two_chats();
    chats.remove(0);
    let content = DigestContent { language: Language::DE, name: None, ..content(chats) };
    let mail = mailer(config()).digest(&content, 1_768_480_000_000).unwrap();
    assert_eq!(mail.subject, "1 ungelesene Nachricht in Waltalkie");
    let expected =
        "Hallo,\n\ndu hast 1 ungelesene Nachricht in Waltalkie.\n\nDave (1)\n  Dave, 15.01.2026, 13:03: Foto\n";
    assert!(mail.text.starts_with(expected), "{}", mail.text);
    assert!(mail.html.contains("<html lang=\"de\">") && mail.html.contains("Waltalkie öffnen"));
}

#[test]
fn html_escapes_what_people_write() {
    let mut chats = two_chats();
    chats[0].name = "<script>alert(1)</script>";
    let mail = mailer(config()).digest(&content(chats), 1_768_480_000_000).unwrap();
    assert!(!mail.html.contains("<script>") && !mail.html.contains("<b>please"));
    assert!(mail.html.contains("&lt;script&gt;") && mail.html.contains("Yes &lt;b&gt;please&lt;"));
}

#[test]
fn modes_show_no_more_than_they_may() {
    let sender_only = DigestContent { content: ContentMode::SenderOnly, ..content(two_chats()) };
    let mail = mailer(config()).digest(&sender_only, 0).unwrap();
    let all = format!("{}{}{}", mail.subject, mail.text, mail.html);
    assert!(all.contains("Alice") && all.contains("Team") && !all.contains("Lunch"));
    // The operator's is stricter.
    let mail = mailer(MailConfig { content: ContentMode::Nothing, ..config() }).digest(&sender_only, 0).unwrap();
    let all = format!("{}{}{}", mail.subject, mail.text, mail.html);
    assert!(all.contains("8 unread messages"));
    assert!(!all.contains("Alice") && !all.contains("Team") && !all.contains("Lunch"));
}

#[test]
fn long_digests_stay_short() {
    let many: Vec<MessageContent<'_>> = (0..50).map(|_| message("Alice", "words")).collect();
    let chat = ChatContent { name: "Team", link: "https://x", count: 1_200, messages: many };
    let mail = mailer(config()).digest(&content(vec![chat; 100]), 0).unwrap();
    assert_eq!(mail.text.matches("and 1195 more").count(), 20);
    assert_eq!(mail.subject, "120000 unread messages in Waltalkie");
}

#[test]
fn header_fields_are_those_of_the_rfcs_and_nobody_can_add_any() {
    let name = "Carol\r\nBcc: all@mail.example";
    let content =
        DigestContent { name: Some(name), address: "carol@mail.example\r\nCc: x@y.example", ..content(two_chats()) };
    let mail = mailer(config()).digest(&content, 1_768_480_000_000).unwrap();
    let raw = String::from_utf8(mail.raw).unwrap();
    let (head, _) = raw.split_once("\r\n\r\n").unwrap();
    // Folded lines belong together.
    let head = head.replace("\r\n\t", " ").replace("\r\n ", " ");
    let names: Vec<&str> = head.split("\r\n").map(|line| line.split(':').next().unwrap()).collect();
    assert!(!names.contains(&"Bcc") && !names.contains(&"Cc"), "{head}");
    let field = |name: &str| head.split("\r\n").find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
    assert!(field("List-Unsubscribe").starts_with("<https://chat.example/unsubscribe?token=v1."));
    assert!(field("List-Unsubscribe").ends_with('>') && !field("List-Unsubscribe").contains(' '));
    assert_eq!(field("List-Unsubscribe-Post"), "List-Unsubscribe=One-Click");
    assert_eq!(field("Auto-Submitted"), "auto-generated");
    assert!(field("Date").starts_with("Thu, 15 Jan 2026 12:26:40"));
    assert!(field("Content-Type").starts_with("multipart/alternative"));
    assert!(field("Message-ID").ends_with("@chat.example>"));
    let text_at = raw.find("Content-Type: text/plain").unwrap();
    assert!(text_at < raw.find("Content-Type: text/html").unwrap(), "the last alternative is the best");
}

#[test]
fn the_same_digest_has_the_same_id() {
    let mailer = mailer(config());
    let id = |content: &DigestContent<'_>, now_ms| {
        let raw = String::from_utf8(mailer.digest(content, now_ms).unwrap().raw).unwrap();
        raw.lines().find(|line| line.starts_with("Message-ID")).unwrap().to_owned()
    };
    let first = id(&content(two_chats()), 0);
    assert_eq!(id(&content(two_chats()), 99_000), first);
    assert_ne!(id(&DigestContent { user_id: "u-dave", ..content(two_chats()) }, 0), first);
    assert_ne!(id(&DigestContent { id: "other", ..content(two_chats()) }, 0), first);
}

#[test]
fn operators_templates_are_tried_out_before_they_are_used() {
    let with = |part, source: &str| {
        Templates::with(Languages::built_in(), BTreeMap::from([((Language::DE, part), source.to_owned())]))
    };
    let own = with(Part::Subject, "Post\nvon {{ brand }}: {{ total }}").unwrap();
    let mailer = Mailer::new(config(), own, None);
    let german = DigestContent { language: Language::DE, ..content(two_chats()) };
    let mail = mailer.digest(&german, 0).unwrap();
    assert_eq!(mail.subject, "Post von Waltalkie: 8");
    assert!(!mail.text.contains("Keine dieser Mails") && !String::from_utf8(mail.raw).unwrap().contains("List-Unsub"));
    for broken in ["{% if %}", "{{ nonsense }}", "{{ brand.x.y }}", "{% for x in total %}{% endfor %}"] {
        let error = with(Part::Html, broken).unwrap_err();
        assert_eq!(error.to_string(), "the template de/digest.html can't be used");
    }
}
