use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use notify::fakes::Tls;
use notify::mail::{ChatContent, DigestContent, Mail, MailConfig, Mailer, MessageContent, Templates};
use notify::provider::smtp::{Smtp, SmtpConfig, SmtpTls};
use notify::provider::{Fault, Outcome};
use notify::settings::ContentMode;
use notify::text::Language;
use notify::unsubscribe::Unsubscribe;
use runtime::Secret;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A mail server, another program.
struct MailServer {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
    tls: Tls,
    _folder: tempfile::TempDir,
}

impl MailServer {
    async fn start(mode: &str) -> Self {
        let python = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../venv/bin/python");
        assert!(python.exists(), "{} isn't there: run scripts/test, which makes it", python.display());
        let (tls, folder) = (Tls::new(), tempfile::tempdir().unwrap());
        let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, tls.pem()).unwrap();
        std::fs::write(&key, tls.key_pem()).unwrap();
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/providers/smtp_server.py"))
            .arg(mode)
            .args([certificate, key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().expect("the server starts").parse().unwrap();
        Self { _child: child, lines, port, tls, _folder: folder }
    }

    fn config(&self, tls: SmtpTls) -> SmtpConfig {
        SmtpConfig {
            host: "localhost".into(),
            port: self.port,
            tls,
            credentials: (tls != SmtpTls::Off).then(|| ("chat".into(), Secret::new("secret"))),
            hello_name: Some("chat.example".into()),
            ca_pem: Some(self.tls.pem().into()),
            timeout: Duration::from_secs(10),
            connections: 2,
        }
    }

    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next_line().await.unwrap().expect("a mail")).unwrap()
    }
}

fn mail() -> Mail {
    let config = MailConfig {
        brand: "Waltalkie".into(),
        from_name: "Waltalkie für alle".into(),
        from_address: "chat@chat.example".into(),
        home: "https://chat.example/".into(),
        settings: None,
        content: ContentMode::Full,
    };
    let secret = Secret::new("0123456789abcdef0123456789abcdef");
    let links = Unsubscribe::new("https://chat.example/unsubscribe", &[secret], false).unwrap();
    let long = "lange Zeilen mit Umlauten äöü ".repeat(20);
    let messages = vec![
        MessageContent { sender: "Jörg", text: &long, sent_at_ms: 1_768_478_580_000 },
        MessageContent { sender: "李雷", text: "From here\n.\nQUIT", sent_at_ms: 1_768_478_580_000 },
    ];
    let content = DigestContent {
        id: "abc",
        user_id: "u-carol",
        name: Some("Carol Müller"),
        address: "carol@mail.example",
        language: Language::DE,
        content: ContentMode::Full,
        time_zone: None,
        chats: vec![ChatContent { name: "Büro", link: "https://chat.example/#/chats/1", count: 2, messages }],
    };
    Mailer::new(config, Templates::built_in().unwrap(), Some(links)).digest(&content, 1_768_480_000_000).unwrap()
}

async fn send(smtp: &Smtp, to: &str) -> Outcome {
    smtp.send("chat@chat.example", &Secret::new(to), &mail().raw).await
}

#[tokio::test]
async fn a_digest_arrives_whole_over_each_kind_of_tls() {
    for (mode, tls) in [("implicit", SmtpTls::Implicit), ("starttls", SmtpTls::StartTls), ("plain", SmtpTls::Off)] {
        let mut server = MailServer::start(mode).await;
        let smtp = Smtp::new(&server.config(tls)).unwrap();
        // Twice, over the same connection.
        for _ in 0..2 {
            assert_eq!(send(&smtp, "carol@mail.example").await, Outcome::Sent { id: Some("250".into()) }, "{mode}");
            let (got, sent) = (server.next().await, mail());
            assert_eq!(got["from"], "chat@chat.example");
            assert_eq!(got["to"][0], "carol@mail.example");
            assert_eq!(got["is_tls"], tls != SmtpTls::Off);
            assert_eq!(got["is_authenticated"], tls != SmtpTls::Off);
            assert_eq!(got["defects"].as_array().unwrap().len(), 0, "{got}");
            let fields = &got["fields"];
            assert_eq!(fields["Subject"], sent.subject);
            assert_eq!(fields["From"], "Waltalkie für alle <chat@chat.example>");
            assert_eq!(fields["To"], "Carol Müller <carol@mail.example>");
            assert_eq!(fields["List-Unsubscribe-Post"], "List-Unsubscribe=One-Click");
            assert!(
                fields["List-Unsubscribe"].as_str().unwrap().starts_with("<https://chat.example/unsubscribe?token=v1.")
            );
            let lines = |text: &str| text.replace("\r\n", "\n").trim_end().to_owned();
            assert_eq!(lines(got["text"].as_str().unwrap()), lines(&sent.text));
            assert_eq!(lines(got["html"].as_str().unwrap()), lines(&sent.html));
        }
    }
}

#[tokio::test]
async fn answers_are_understood_and_no_address_is_repeated() {
    let server = MailServer::start("plain").await;
    let smtp = Smtp::new(&server.config(SmtpTls::Off)).unwrap();
    let retry = |fault| Outcome::Retry { after: None, fault };
    for (to, expected) in [
        ("gone@mail.example", Outcome::Gone { since_ms: None }),
        ("not an address", Outcome::Gone { since_ms: None }),
        ("full@mail.example", retry(Fault::Limited("452 4.2.2".into()))),
        ("refused@mail.example", Outcome::Refused { reason: "554 5.7.1".into() }),
        ("closing@mail.example", retry(Fault::Unavailable("421 4.3.2".into()))),
    ] {
        assert_eq!(send(&smtp, to).await, expected, "{to}");
    }
    assert!(matches!(send(&smtp, "carol@mail.example").await, Outcome::Sent { .. }));
}

#[tokio::test]
async fn hangs_and_cuts_end_and_the_next_one_works() {
    let server = MailServer::start("plain").await;
    let config = server.config(SmtpTls::Off);
    let impatient = Smtp::new(&SmtpConfig { timeout: Duration::from_millis(500), ..config.clone() }).unwrap();
    for to in ["hang@mail.example", "cut@mail.example", "lost@mail.example"] {
        let outcome = send(&impatient, to).await;
        assert!(outcome.is_unknown(), "{to}: {outcome:?}");
    }
    let patient = Smtp::new(&config).unwrap();
    for to in ["carol@mail.example", "lost@mail.example"] {
        let outcome = send(&patient, to).await;
        assert!(matches!(outcome, Outcome::Sent { .. }), "{to}: {outcome:?}");
    }
}

#[tokio::test]
async fn nothing_is_sent_without_the_protection_that_was_asked_for() {
    let plain = MailServer::start("plain").await;
    // No STARTTLS is offered.
    let smtp = Smtp::new(&plain.config(SmtpTls::StartTls)).unwrap();
    let outcome = send(&smtp, "carol@mail.example").await;
    assert!(matches!(outcome, Outcome::Retry { fault: Fault::Credentials(_), .. }), "{outcome:?}");
    // A certificate of somebody else.
    let server = MailServer::start("implicit").await;
    let config = SmtpConfig { ca_pem: None, ..server.config(SmtpTls::Implicit) };
    let outcome = send(&Smtp::new(&config).unwrap(), "carol@mail.example").await;
    assert!(matches!(outcome, Outcome::Retry { fault: Fault::Unreachable(_), .. }), "{outcome:?}");
    // Passwords need TLS.
    let open = SmtpConfig { credentials: Some(("chat".into(), Secret::new("secret"))), ..plain.config(SmtpTls::Off) };
    let error = Smtp::new(&open).unwrap_err();
    assert!(!format!("{error} {error:?} {open:?}").contains("secret"));
}

#[tokio::test]
async fn a_wrong_password_is_ours_to_mend() {
    let server = MailServer::start("implicit").await;
    let credentials = Some(("chat".into(), Secret::new("wrong")));
    let smtp = Smtp::new(&SmtpConfig { credentials, ..server.config(SmtpTls::Implicit) }).unwrap();
    let outcome = send(&smtp, "carol@mail.example").await;
    assert_eq!(outcome, Outcome::Retry { after: None, fault: Fault::Credentials("535 5.7.8".into()) });
}

#[tokio::test]
async fn a_server_that_is_away_was_never_reached() {
    let mut config = MailServer::start("plain").await.config(SmtpTls::Off);
    config.port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    let outcome = send(&Smtp::new(&config).unwrap(), "carol@mail.example").await;
    assert_eq!(outcome, Outcome::Retry { after: None, fault: Fault::Unreachable("no connection".into()) });
}
