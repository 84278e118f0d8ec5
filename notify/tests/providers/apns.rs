use notify::fakes::{ApnsFake, Instead};
use notify::payload::{ApnsPush, ContentMode, ReadElsewhere};
use notify::provider::apns::{Apns, ApnsConfig};
use notify::provider::{Fault, Outcome};
use runtime::Secret;

use crate::{MESSAGE, alert, impatient, limited, nowhere, refused, unavailable};

fn device() -> Secret {
    Secret::new("00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0")
}

fn push() -> ApnsPush {
    ApnsPush::message(&alert(), ContentMode::Full)
}

fn explained(status: u16, retry_after: Option<&str>, reason: &str) -> Instead {
    let body = serde_json::json!({ "reason": reason }).to_string();
    Instead::Answer { status, retry_after: retry_after.map(str::to_owned), body }
}

#[tokio::test]
async fn a_message_and_a_read_arrive_with_their_fields() {
    let fake = ApnsFake::start().await;
    let apns = Apns::new(&fake.config()).unwrap();
    let Outcome::Sent { id: Some(id) } = apns.send(&device(), &push()).await else { panic!("not sent") };
    assert_eq!(id.len(), 36);
    let read = ReadElsewhere { chat_id: "team-1", read_seq: 42, badge: 0 };
    assert!(matches!(apns.send(&device(), &ApnsPush::read(&read, 1_790_000_000_000)).await, Outcome::Sent { .. }));

    let accepted = fake.wait_for(2).await;
    assert_eq!(accepted[0].device, device().expose());
    assert_eq!(accepted[0].payload, push().payload);
    assert_eq!(accepted[1].payload["waltalkie"]["type"], "read");
    for (field, message, read) in [
        ("apns-topic", "com.example.MyApp", "com.example.MyApp"),
        ("apns-push-type", "alert", "alert"),
        ("apns-priority", "10", "5"),
        ("apns-expiration", "1790604800", "1790604800"),
    ] {
        assert_eq!((accepted[0].fields[field].as_str(), accepted[1].fields[field].as_str()), (message, read));
    }
    assert_eq!(accepted[0].fields["apns-collapse-id"], MESSAGE);
    // One token for both.
    assert_eq!(accepted[0].token, accepted[1].token);
}

#[tokio::test]
async fn answers_are_understood() {
    let fake = ApnsFake::start().await;
    let apns = Apns::new(&fake.config()).unwrap();
    let credentials = |why: &str| Outcome::Retry { after: None, fault: Fault::Credentials(why.into()) };
    for (instead, expected) in [
        (explained(400, None, "BadDeviceToken"), refused("BadDeviceToken")),
        (explained(400, None, "PayloadEmpty"), refused("PayloadEmpty")),
        (explained(403, None, "InvalidProviderToken"), credentials("InvalidProviderToken")),
        (explained(403, None, "ExpiredProviderToken"), credentials("ExpiredProviderToken")),
        (explained(404, None, "BadPath"), refused("BadPath")),
        (explained(410, None, "Unregistered"), Outcome::Gone { since_ms: None }),
        (explained(413, None, "PayloadTooLarge"), refused("PayloadTooLarge")),
        (explained(429, Some("7"), "TooManyRequests"), limited(7, "TooManyRequests")),
        (explained(500, None, "InternalServerError"), unavailable("InternalServerError")),
        (explained(503, None, "ServiceUnavailable"), unavailable("ServiceUnavailable")),
        // Nothing but plain words is repeated.
        (explained(400, None, "the token 00fc13ad\nis bad"), refused("400")),
        (Instead::status(502), unavailable("502")),
    ] {
        fake.next(instead.clone());
        assert_eq!(apns.send(&device(), &push()).await, expected, "{instead:?}");
    }
    fake.unregister(device().expose(), 1_454_948_015_990);
    assert_eq!(apns.send(&device(), &push()).await, Outcome::Gone { since_ms: Some(1_454_948_015_990) });
    assert!(fake.accepted().is_empty());
}

#[tokio::test]
async fn a_date_in_retry_after_is_waited_for() {
    let fake = ApnsFake::start().await;
    let apns = Apns::new(&fake.config()).unwrap();
    // 2100.
    fake.next(explained(503, Some("Fri, 01 Jan 2100 00:00:00 GMT"), "ServiceUnavailable"));
    let Outcome::Retry { after: Some(after), .. } = apns.send(&device(), &push()).await else { panic!("no wait") };
    assert!(after.as_secs() > 365 * 86_400);
}

#[tokio::test]
async fn hangs_and_cuts_end_and_the_next_one_works() {
    let fake = ApnsFake::start().await;
    let config = ApnsConfig { http: impatient(fake.config().http), ..fake.config() };
    let apns = Apns::new(&config).unwrap();
    for instead in [Instead::Hang, Instead::Cut, Instead::CutAfter] {
        fake.next(instead.clone());
        let outcome = apns.send(&device(), &push()).await;
        assert!(outcome.is_unknown() && outcome.is_fault_of_provider(), "{instead:?}: {outcome:?}");
        assert!(!format!("{outcome:?}").contains("00fc13ad"));
    }
    let patient = Apns::new(&fake.config()).unwrap();
    assert!(matches!(patient.send(&device(), &push()).await, Outcome::Sent { .. }));
}

#[tokio::test]
async fn what_is_unreachable_or_untrusted_was_never_sent() {
    let fake = ApnsFake::start().await;
    let away = Apns::new(&ApnsConfig { endpoint: nowhere(), ..fake.config() }).unwrap();
    let untrusting = notify::provider::HttpOptions { tls: notify::fakes::Tls::new().client(), ..fake.config().http };
    let untrusted = Apns::new(&ApnsConfig { http: untrusting, ..fake.config() }).unwrap();
    for (apns, why) in [(away, "no connection"), (untrusted, "its certificate isn't trusted")] {
        let expected = Outcome::Retry { after: None, fault: Fault::Unreachable(why.into()) };
        assert_eq!(apns.send(&device(), &push()).await, expected);
    }
}

#[tokio::test]
async fn what_can_only_be_refused_is_not_sent() {
    let fake = ApnsFake::start().await;
    let apns = Apns::new(&fake.config()).unwrap();
    for device in ["", "../../3/device/abc", "abc?x", "abc def"] {
        assert!(matches!(apns.send(&Secret::new(device), &push()).await, Outcome::Refused { .. }));
    }
    let mut large = push();
    large.payload["aps"]["alert"] = "x".repeat(4_096).into();
    assert_eq!(apns.send(&device(), &large).await, refused("the payload is too large"));
    assert!(fake.accepted().is_empty());
}

#[tokio::test]
async fn another_accounts_key_is_not_accepted() {
    let fake = ApnsFake::start().await;
    let other = ApnsFake::start().await;
    let apns = Apns::new(&ApnsConfig { key: other.config().key, ..fake.config() }).unwrap();
    let fault = Fault::Credentials("InvalidProviderToken".into());
    assert_eq!(apns.send(&device(), &push()).await, Outcome::Retry { after: None, fault });
}
