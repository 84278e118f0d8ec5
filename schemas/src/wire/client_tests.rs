use super::*;
use proptest::prelude::*;

fn refusal(text: &str) -> (Code, Option<String>) {
    let refused = parse(text, &Limits::default()).expect_err("must be refused");
    (refused.rejection.code, refused.rejection.field)
}

#[test]
fn each_wrong_frame_names_its_place() {
    let at = |field: &str| Some(field.to_owned());
    assert_eq!(refusal("{"), (Code::BadJson, None));
    assert_eq!(refusal("[1]"), (Code::BadJson, None));
    assert_eq!(refusal("{}"), (Code::MissingField, at("event")));
    assert_eq!(refusal(r#"{"event":5}"#), (Code::BadField, at("event")));
    assert_eq!(refusal(r#"{"event":"nope"}"#), (Code::UnknownEvent, at("event")));
    assert_eq!(refusal(r#"{"event":"send_message"}"#), (Code::MissingField, at("payload.chat_id")));
    assert_eq!(refusal(r#"{"event":"send_message","payload":[]}"#), (Code::BadField, at("payload")));
    let send = |rest: &str| refusal(&format!(r#"{{"event":"send_message","payload":{{"chat_id":"c"{rest}}}}}"#));
    assert_eq!(send(""), (Code::MissingField, at("payload.content")));
    assert_eq!(send(r#","content":7"#), (Code::BadField, at("payload.content")));
    assert_eq!(send(r#","content":" \n ""#), (Code::ContentEmpty, at("payload.content")));
    assert_eq!(send(r#","content":"a\u0000b""#), (Code::ContentNotText, at("payload.content")));
    assert_eq!(send(r#","content":"a","message_id":"x""#), (Code::BadUuid, at("payload.message_id")));
    assert_eq!(send(r#","content":"a","app_data":3"#), (Code::BadField, at("payload.app_data")));
    let long = format!(r#","content":"{}""#, "x".repeat(16_385));
    assert_eq!(send(&long), (Code::ContentTooLong, at("payload.content")));
    assert_eq!(send(r#","content":"a","attachments":"m""#), (Code::BadField, at("payload.attachments")));
    assert_eq!(send(r#","attachments":["m","m"]"#), (Code::BadField, at("payload.attachments")));
    assert_eq!(send(r#","attachments":["m"],"file":"n""#), (Code::BadField, at("payload.file")));
    assert_eq!(send(r#","file":"../m""#), (Code::BadField, at("payload.file")));
    let many: Vec<String> = (0..11).map(|number| format!("m{number}")).collect();
    let many = format!(r#","attachments":{}"#, serde_json::json!(many));
    assert_eq!(send(&many), (Code::BadField, at("payload.attachments")));
    let marks = |marks: &str| refusal(&format!(r#"{{"event":"mark_read","payload":{{"marks":{marks}}}}}"#));
    assert_eq!(marks("[]"), (Code::BadField, at("payload.marks")));
    assert_eq!(marks(r#"{"c":1.5}"#), (Code::BadField, at("payload.marks")));
    assert_eq!(marks(r#"{"c":-1}"#), (Code::BadField, at("payload.marks")));
    // One past what every reader of JSON holds exactly, and what is beyond 64 bits.
    assert_eq!(marks(r#"{"c":9007199254740992}"#), (Code::BadField, at("payload.marks")));
    assert_eq!(marks(r#"{"c":18446744073709551616}"#), (Code::BadField, at("payload.marks")));
    assert_eq!(marks(r#"{"c":1,"c":2}"#), (Code::BadJson, None));
    assert_eq!(refusal(r#"{"event":"heartbeat","id":18446744073709551616}"#), (Code::BadField, at("id")));
    assert_eq!(refusal(r#"{"event":"heartbeat","event":"heartbeat"}"#), (Code::BadJson, None));
    assert_eq!(send(r#","content":"a","content":"b""#), (Code::BadJson, None));
    assert_eq!(send(r#","content":"\ud800""#), (Code::BadJson, None));
    assert_eq!(send(r#","content":"a","app_data":{"a":1,"a":2}"#), (Code::BadJson, at("payload.app_data")));
}

#[test]
fn ids_of_64_bits_come_back_and_unknown_fields_are_nothing() {
    let text = r#"{"event":"mark_read","id":18446744073709551615,"of":{"a":1},"payload":{"marks":{"c":9007199254740991},"x":[]}}"#;
    let request = parse(text, &Limits::default()).expect("valid");
    assert_eq!(request.id, Some(Value::from(u64::MAX)));
    assert_eq!(request.frame, ClientFrame::MarkRead(vec![("c".into(), MAX_SEQ)]));
}

#[test]
fn whoever_doesnt_say_otherwise_is_active() {
    let frame = |rest: &str| {
        let text = format!(r#"{{"event":"heartbeat"{rest}}}"#);
        parse(&text, &Limits::default()).expect("valid").frame
    };
    for rest in ["", r#","payload":null"#, r#","payload":{}"#, r#","payload":{"active":true}"#] {
        assert_eq!(frame(rest), ClientFrame::Heartbeat { active: true }, "{rest}");
    }
    assert_eq!(frame(r#","payload":{"active":false}"#), ClientFrame::Heartbeat { active: false });
    let wrong = refusal(r#"{"event":"heartbeat","payload":{"active":"no"}}"#);
    assert_eq!(wrong, (Code::BadField, Some("payload.active".to_owned())));
}

#[test]
fn names_dont_rearrange_what_stands_around_them() {
    let line = |name: &str| {
        let mut fields = Fields::of_body(serde_json::json!({ "name": name }).to_string().as_bytes()).expect("JSON");
        fields.optional_line("name").map_err(|rejection| (rejection.code, rejection.message))
    };
    for name in ["Zoë", "שלום \u{200f}", "👩\u{200d}🚀", "a b"] {
        assert_eq!(line(name), Ok(Some(name.to_owned())));
    }
    for name in ["a\u{202e}b", "\u{2066}", "a\nb", "a\u{7f}", "\u{85}", "a\u{1b}[31m", "\u{2028}"] {
        let (code, message) = line(name).expect_err("refused");
        assert!(code == Code::BadField && message.starts_with("name holds U+"), "{message}");
    }
    assert_eq!(line("a\u{0}").expect_err("refused").0, Code::ContentNotText);
}

#[test]
fn a_message_has_a_text_or_files_or_both() {
    let sent = |rest: &str| {
        let text = format!(r#"{{"event":"send_message","payload":{{"chat_id":"c"{rest}}}}}"#);
        match parse(&text, &Limits::default()).expect("valid").frame {
            ClientFrame::SendMessage(send) => (send.content, send.media_ids),
            other => panic!("{other:?}"),
        }
    };
    let one = || vec!["m".to_owned()];
    assert_eq!(sent(r#","content":"a","attachments":[],"file":"""#), ("a".into(), vec![]));
    assert_eq!(sent(r#","attachments":["m"]"#), (String::new(), one()));
    assert_eq!(sent(r#","content":" ","file":"m""#), (String::new(), one()));
    assert_eq!(sent(r#","content":"a","attachments":["m","n"]"#), ("a".into(), vec!["m".into(), "n".into()]));
    let limits = Limits::new(100, false);
    let text = r#"{"event":"send_message","payload":{"chat_id":"c","attachments":["m"]}}"#;
    assert_eq!(parse(text, &limits).expect_err("no store").rejection.code, Code::NotSupported);
}

#[test]
fn refused_sends_are_remembered_by_chat_and_message() {
    let text = r#"{"event":"send_message","id":7,"payload":{"chat_id":"c","message_id":"m","content":"a"}}"#;
    let refused = parse(text, &Limits::default()).expect_err("bad uuid");
    assert_eq!(refused.id, Some(Value::from(7)));
    assert_eq!((refused.chat_id.as_deref(), refused.message_id.as_deref()), (Some("c"), Some("m")));
    assert!(refused.is_send);
}

proptest! {
    #[test]
    fn any_text_is_answered(text in ".{0,200}") {
        let _ = parse(&text, &Limits::default());
    }

    #[test]
    fn sends_come_through(content in "[^\u{0}]*[a-z][^\u{0}]*") {
        let message_id = Uuid::now_v7();
        let text = serde_json::json!({"event": "send_message", "id": "1",
            "payload": {"chat_id": "c", "message_id": message_id, "content": content}}).to_string();
        let request = parse(&text, &Limits::default()).expect("valid");
        let is_same = matches!(&request.frame, ClientFrame::SendMessage(send)
            if send.content == content && send.message_id == message_id);
        prop_assert!(is_same);
    }
}
