use std::sync::Arc;

use notify::fakes::{FcmFake, Instead};
use notify::payload::{ContentMode, FcmPush, ReadElsewhere};
use notify::provider::fcm::{Fcm, FcmConfig};
use notify::provider::{Fault, Outcome};
use runtime::Secret;
use serde_json::{Value, json};

use crate::{alert, impatient, limited, nowhere, refused, unavailable};

fn device() -> Secret {
    Secret::new("bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1")
}

fn push() -> FcmPush {
    FcmPush::message(&alert(), ContentMode::Full)
}

fn error(status: u16, name: &str, code: Option<&str>) -> Value {
    let details = code.map(|code| {
        json!([{
            "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code,
        }])
    });
    json!({ "error": { "code": status, "status": name, "message": "about bk3RNwTe3H0", "details": details } })
}

fn instead(status: u16, retry_after: Option<&str>, body: &Value) -> Instead {
    Instead::Answer { status, retry_after: retry_after.map(str::to_owned), body: body.to_string() }
}

#[tokio::test]
async fn one_token_serves_many_messages() {
    let fake = FcmFake::start().await;
    let fcm = Arc::new(Fcm::new(&fake.config()).unwrap());
    // At once: one fetches, the others wait for it.
    let sends = (0..10).map(|number| {
        let fcm = Arc::clone(&fcm);
        tokio::spawn(async move { fcm.send(&Secret::new(format!("device-{number}")), &push()).await })
    });
    for send in sends.collect::<Vec<_>>() {
        assert!(matches!(send.await.unwrap(), Outcome::Sent { id: Some(_) }));
    }
    let read = FcmPush::read(&ReadElsewhere { chat_id: "team-1", read_seq: 42, badge: 0 });
    assert!(matches!(fcm.send(&device(), &read).await, Outcome::Sent { .. }));
    let accepted = fake.wait_for(11).await;
    assert_eq!(accepted[0].message, push().message);
    assert_eq!((accepted[10].device.as_str(), &accepted[10].message), (device().expose(), &read.message));
    assert_eq!(fake.tokens(), 1);
}

#[tokio::test]
async fn a_withdrawn_token_is_replaced_and_the_message_sent() {
    let fake = FcmFake::start().await;
    let fcm = Fcm::new(&fake.config()).unwrap();
    assert!(matches!(fcm.send(&device(), &push()).await, Outcome::Sent { .. }));
    fake.revoke();
    assert!(matches!(fcm.send(&device(), &push()).await, Outcome::Sent { .. }));
    assert_eq!((fake.tokens(), fake.accepted().len()), (2, 2));
}

#[tokio::test]
async fn answers_are_understood() {
    let fake = FcmFake::start().await;
    let fcm = Fcm::new(&fake.config()).unwrap();
    assert!(matches!(fcm.send(&device(), &push()).await, Outcome::Sent { .. }));
    let gone = Outcome::Gone { since_ms: None };
    let credentials = |why: &str| Outcome::Retry { after: None, fault: Fault::Credentials(why.into()) };
    for (instead, expected) in [
        (instead(404, None, &error(404, "NOT_FOUND", Some("UNREGISTERED"))), gone.clone()),
        (instead(404, None, &error(404, "NOT_FOUND", None)), refused("NOT_FOUND")),
        (instead(400, None, &error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"))), refused("INVALID_ARGUMENT")),
        (
            instead(403, None, &error(403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH"))),
            refused("SENDER_ID_MISMATCH"),
        ),
        (instead(403, None, &error(403, "PERMISSION_DENIED", None)), credentials("PERMISSION_DENIED")),
        (
            instead(429, Some("30"), &error(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED"))),
            limited(30, "QUOTA_EXCEEDED"),
        ),
        // Firebase's advice where nothing better is said.
        (instead(429, None, &error(429, "RESOURCE_EXHAUSTED", None)), limited(60, "RESOURCE_EXHAUSTED")),
        (instead(500, None, &error(500, "INTERNAL", Some("INTERNAL"))), unavailable("INTERNAL")),
        (instead(503, None, &error(503, "UNAVAILABLE", Some("UNAVAILABLE"))), unavailable("UNAVAILABLE")),
        (Instead::status(502), unavailable("502")),
    ] {
        fake.next(instead.clone());
        assert_eq!(fcm.send(&device(), &push()).await, expected, "{instead:?}");
    }
    fake.unregister(device().expose());
    assert_eq!(fcm.send(&device(), &push()).await, gone);
    // As Firebase says it of a token that was never one.
    assert_eq!(fcm.send(&Secret::new("short"), &push()).await, gone);
    let wrong = FcmPush { message: json!({ "data": { "seq": 5 } }) };
    assert_eq!(fcm.send(&device(), &wrong).await, refused("INVALID_ARGUMENT"));
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_nothing_is_lost() {
    let fake = FcmFake::start().await;
    let fcm = Fcm::new(&fake.config()).unwrap();
    fake.next(instead(400, None, &json!({ "error": "invalid_grant" })));
    let fault = Fault::Credentials("invalid_grant".into());
    assert_eq!(fcm.send(&device(), &push()).await, Outcome::Retry { after: None, fault });
    fake.next(instead(503, Some("5"), &json!({})));
    let outcome = fcm.send(&device(), &push()).await;
    assert!(matches!(outcome, Outcome::Retry { after: Some(_), fault: Fault::Unavailable(_) }), "{outcome:?}");
    fake.next(Instead::Cut);
    let outcome = fcm.send(&device(), &push()).await;
    assert!(!outcome.is_unknown() && outcome.is_fault_of_provider(), "{outcome:?}");
    assert!(matches!(fcm.send(&device(), &push()).await, Outcome::Sent { .. }));

    let other = FcmFake::start().await;
    let mut account: Value = serde_json::from_str(fake.config().service_account.expose()).unwrap();
    account["private_key"] =
        serde_json::from_str::<Value>(other.config().service_account.expose()).unwrap()["private_key"].clone();
    let config = FcmConfig { service_account: Secret::new(account.to_string()), ..fake.config() };
    let fault = Fault::Credentials("invalid_grant".into());
    assert_eq!(Fcm::new(&config).unwrap().send(&device(), &push()).await, Outcome::Retry { after: None, fault });
}

#[tokio::test]
async fn whoever_waits_for_a_token_that_cannot_be_had_fails_with_it() {
    let fake = FcmFake::start().await;
    let fcm = Fcm::new(&FcmConfig { http: impatient(fake.config().http), ..fake.config() }).unwrap();
    fake.next(Instead::Hang);
    let (to, push) = (device(), push());
    let outcomes = futures_util::future::join_all((0..8).map(|_| fcm.send(&to, &push))).await;
    // One after another they would have got a token, the last one after all the time-outs of those before it.
    assert!(outcomes.iter().all(Outcome::is_fault_of_provider), "{outcomes:?}");
    assert_eq!(fake.tokens(), 0);
    assert!(matches!(fcm.send(&to, &push).await, Outcome::Sent { .. }));
}

#[tokio::test]
async fn hangs_and_cuts_end_and_the_next_one_works() {
    let fake = FcmFake::start().await;
    let fcm = Fcm::new(&FcmConfig { http: impatient(fake.config().http), ..fake.config() }).unwrap();
    assert!(matches!(fcm.send(&device(), &push()).await, Outcome::Sent { .. }));
    for instead in [Instead::Hang, Instead::Cut, Instead::CutAfter] {
        fake.next(instead.clone());
        let outcome = fcm.send(&device(), &push()).await;
        assert!(outcome.is_unknown() && outcome.is_fault_of_provider(), "{instead:?}: {outcome:?}");
        assert!(!format!("{outcome:?}").contains("bk3RNw"));
    }
    let patient = Fcm::new(&fake.config()).unwrap();
    assert!(matches!(patient.send(&device(), &push()).await, Outcome::Sent { .. }));
}

#[tokio::test]
async fn a_service_that_is_away_was_never_reached() {
    let fake = FcmFake::start().await;
    let fcm = Fcm::new(&FcmConfig { endpoint: nowhere(), ..fake.config() }).unwrap();
    let expected = Outcome::Retry { after: None, fault: Fault::Unreachable("no connection".into()) };
    assert_eq!(fcm.send(&device(), &push()).await, expected);
}

#[tokio::test]
async fn secrets_are_nowhere_to_be_seen() {
    let fake = FcmFake::start().await;
    let config = fake.config();
    assert!(!format!("{config:?} {:?}", Fcm::new(&config).unwrap()).contains("PRIVATE"));
    for broken in ["secret-words", r#"{"project_id":"secret-words"}"#] {
        let config = FcmConfig { service_account: Secret::new(broken), ..fake.config() };
        let error = Fcm::new(&config).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret-words"));
    }
}
