use notify::fakes::{Instead, PushServiceFake};
use notify::languages::Languages;
use notify::payload::{ContentMode, WebPushPush};
use notify::provider::address::Reach;
use notify::provider::web_push::{Subscription, SubscriptionError, VapidKey, WebPush, WebPushConfig};
use notify::provider::{Fault, Outcome};
use notify::text::Language;
use runtime::Secret;
use serde_json::Value;

use crate::{alert, impatient, limited, nowhere, refused, unavailable};

fn config(service: &PushServiceFake) -> WebPushConfig {
    WebPushConfig {
        key: VapidKey::new(&VapidKey::generate().unwrap()).unwrap(),
        contact: "mailto:admin@chat.example".into(),
        reach: Reach::Anywhere,
        http: service.http(),
    }
}

fn push() -> WebPushPush {
    WebPushPush::message(&alert(), ContentMode::Full, Languages::built_in().texts(Language::EN))
}

#[tokio::test]
async fn a_browser_reads_what_was_sent() {
    let service = PushServiceFake::start().await;
    let config = config(&service);
    let browser = service.subscribe(Some(config.key.public_key()));
    let web_push = WebPush::new(&config).unwrap();
    assert_eq!(web_push.send(&browser.subscription(), &push()).await, Outcome::Sent { id: None });
    let pushed = &service.wait_for(1).await[0];
    assert_eq!(serde_json::from_slice::<Value>(&pushed.plaintext).unwrap(), push().payload);
    assert_eq!((pushed.topic.as_ref(), pushed.urgency.as_deref()), (Some(&push().topic), Some("normal")));
    assert_eq!((pushed.ttl_s, pushed.contact.as_str()), (604_800, "mailto:admin@chat.example"));
    assert_eq!(pushed.endpoint, browser.endpoint);
}

#[tokio::test]
async fn answers_are_understood() {
    let service = PushServiceFake::start().await;
    let web_push = WebPush::new(&config(&service)).unwrap();
    let browser = service.subscribe(None);
    let gone = Outcome::Gone { since_ms: None };
    let patience = Instead::Answer { status: 429, retry_after: Some("120".into()), body: "slow down".into() };
    for (instead, expected) in [
        (Instead::status(200), Outcome::Sent { id: None }),
        (Instead::status(202), Outcome::Sent { id: None }),
        (Instead::status(307), refused("307")),
        (Instead::status(400), refused("400")),
        (Instead::status(401), refused("401")),
        (Instead::status(404), gone.clone()),
        (Instead::status(410), gone.clone()),
        (Instead::status(413), refused("413")),
        (patience, limited(120, "429")),
        (Instead::status(500), unavailable("500")),
        (Instead::status(503), unavailable("503")),
    ] {
        service.next(instead.clone());
        assert_eq!(web_push.send(&browser.subscription(), &push()).await, expected, "{instead:?}");
    }
    // Subscribed with another server's key.
    let bound = service
        .subscribe(Some("BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"));
    assert_eq!(web_push.send(&bound.subscription(), &push()).await, refused("403"));
    service.unsubscribe(&browser);
    assert_eq!(web_push.send(&browser.subscription(), &push()).await, gone);
    assert!(service.delivered().is_empty());
}

#[tokio::test]
async fn hangs_and_cuts_end_and_the_next_one_works() {
    let service = PushServiceFake::start().await;
    let config = config(&service);
    let web_push = WebPush::new(&WebPushConfig { http: impatient(service.http()), ..config.clone() }).unwrap();
    let browser = service.subscribe(None);
    for instead in [Instead::Hang, Instead::Cut, Instead::CutAfter] {
        service.next(instead.clone());
        let outcome = web_push.send(&browser.subscription(), &push()).await;
        assert!(outcome.is_unknown() && outcome.is_fault_of_provider(), "{instead:?}: {outcome:?}");
        assert!(!format!("{outcome:?}").contains("/push/"));
    }
    let patient = WebPush::new(&config).unwrap();
    assert_eq!(patient.send(&browser.subscription(), &push()).await, Outcome::Sent { id: None });
}

#[tokio::test]
async fn endpoints_that_lead_inside_get_nothing() {
    let service = PushServiceFake::start().await;
    let web_push = WebPush::new(&WebPushConfig { reach: Reach::Public, ..config(&service) }).unwrap();
    let browser = service.subscribe(None);
    assert_eq!(web_push.send(&browser.subscription(), &push()).await, refused("the endpoint has a port of its own"));
    assert!(service.delivered().is_empty());
}

#[tokio::test]
async fn what_is_away_was_never_reached() {
    let service = PushServiceFake::start().await;
    let browser = service.subscribe(None);
    let away = Subscription::new(Secret::new(nowhere()), &browser.p256dh, &browser.auth).unwrap();
    let expected = Outcome::Retry { after: None, fault: Fault::Unreachable("no connection".into()) };
    assert_eq!(WebPush::new(&config(&service)).unwrap().send(&away, &push()).await, expected);
}

#[tokio::test]
async fn what_can_only_be_refused_is_not_sent() {
    let service = PushServiceFake::start().await;
    let web_push = WebPush::new(&config(&service)).unwrap();
    let browser = service.subscribe(None);
    let mut large = push();
    large.payload["body"] = "x".repeat(4_000).into();
    assert_eq!(web_push.send(&browser.subscription(), &large).await, refused("the payload is too large"));
    let broken = WebPushConfig { contact: "admin@chat.example".into(), ..config(&service) };
    assert!(WebPush::new(&broken).is_err());

    let new = |p256dh: &str, auth: &str| Subscription::new(Secret::new("https://x.example"), p256dh, auth).map(|_| ());
    let off_the_curve = "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert_eq!(new(off_the_curve, &browser.auth), Err(SubscriptionError::PublicKey));
    assert_eq!(new("x", &browser.auth), Err(SubscriptionError::PublicKey));
    assert_eq!(new(&browser.p256dh, "x"), Err(SubscriptionError::Auth));
    assert_eq!(new(&format!("{}=", browser.p256dh), &format!("{}==", browser.auth)), Ok(()));
    assert_eq!(format!("{:?}", browser.subscription()), "Subscription([redacted])");
}
