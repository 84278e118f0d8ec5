use jsonwebtoken::{EncodingKey, Header};
use runtime::Secret;
use schemas::wire::Code;
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn config() -> Config {
    let mut config = Config { development: true, ..Config::default() };
    config.auth.hs256_secret = Secret::new(SECRET);
    config
}

fn signed(claims: &Value) -> String {
    signed_with(&Header::new(Algorithm::HS256), claims)
}

fn signed_with(header: &Header, claims: &Value) -> String {
    runtime::tls::install_provider();
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn now_s() -> i64 {
    clock::now_ms() / 1_000
}

async fn verify(token: &str) -> Result<Token, Rejection> {
    Authenticator::new(&config()).unwrap().verify(token).await
}

async fn code_of(token: &str) -> Code {
    verify(token).await.unwrap_err().code
}

#[tokio::test]
async fn own_tokens_are_accepted_until_they_expire() {
    let (token, expires_at_ms) = development_token(&config(), "alice", Some("Alice"), 60).unwrap();
    let Ok(Token::Person(identity)) = verify(&token).await else { panic!("no person") };
    assert_eq!((identity.user_id.as_str(), identity.name.as_deref()), ("alice", Some("Alice")));
    assert_eq!(identity.expires_at_ms, expires_at_ms);
    assert_eq!(identity.issued_at_ms, expires_at_ms - 60_000);
    let (expired, _) = development_token(&config(), "alice", None, -60).unwrap();
    assert_eq!(code_of(&expired).await, Code::TokenExpired);
}

#[tokio::test]
async fn services_have_the_scopes_that_they_are_given() {
    let (token, _) = development_service_token(&config(), "backend", "users:write act:users", 60).unwrap();
    let Ok(Token::Service(service)) = verify(&token).await else { panic!("no service") };
    assert_eq!(service.name, "backend");
    assert!(service.scopes.need(Scope::UsersWrite).is_ok() && service.scopes.need(Scope::ActForUsers).is_ok());
    assert!(service.scopes.need(Scope::UsersRemove).is_err());
}

#[tokio::test]
async fn foreign_tokens_are_not_accepted() {
    let (token, _) = development_token(&config(), "alice", None, 60).unwrap();
    let (head, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(code_of(head).await, Code::TokenInvalid);
    assert_eq!(code_of(&format!("{head}.")).await, Code::TokenInvalid);
    assert_eq!(code_of(&format!("{head}.{}", signature.to_uppercase())).await, Code::TokenInvalid);
    assert_eq!(code_of(&format!("{token}.x")).await, Code::TokenInvalid);
    assert_eq!(code_of(&"x".repeat(1 << 20)).await, Code::TokenInvalid);
    // {"alg":"none"} . {"sub":"alice","exp":9999999999} .
    assert_eq!(code_of("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.").await, Code::TokenInvalid);
    let mut other = config();
    other.auth.hs256_secret = Secret::new("another secret of thirty-two byte");
    let (foreign, _) = development_token(&other, "alice", None, 60).unwrap();
    assert_eq!(code_of(&foreign).await, Code::TokenInvalid);
}

#[tokio::test]
async fn claims_hold_or_the_token_is_refused() {
    let exp = now_s() + 60;
    assert!(verify(&signed(&json!({ "sub": "alice", "exp": exp }))).await.is_ok());
    assert!(verify(&signed(&json!({ "sub": "alice", "exp": exp as f64 + 0.5, "typ": "Bearer" }))).await.is_ok());
    for claims in [
        json!({ "sub": "alice" }),
        json!({ "exp": exp }),
        json!({ "sub": "alice", "exp": exp.to_string() }),
        json!({ "sub": "alice", "exp": -1 }),
        json!({ "sub": "alice", "exp": 1e300 }),
        json!({ "sub": "alice", "exp": exp, "nbf": exp }),
        json!({ "sub": "alice", "exp": exp, "iat": exp }),
        json!({ "sub": "alice", "exp": exp, "typ": "refresh" }),
        json!({ "sub": "alice", "exp": exp, "typ": 1 }),
        json!({ "sub": "al ice", "exp": exp }),
        json!({ "sub": 7, "exp": exp }),
        json!({ "sub": "waltalkie:system", "exp": exp }),
        json!({ "sub": "x".repeat(65), "exp": exp }),
    ] {
        assert_eq!(code_of(&signed(&claims)).await, Code::TokenInvalid, "{claims}");
    }
}

#[tokio::test]
async fn headers_that_ask_for_more_are_refused() {
    let claims = json!({ "sub": "alice", "exp": now_s() + 60 });
    let mut critical = Header::new(Algorithm::HS256);
    critical.crit = Some(vec!["b64".into()]);
    assert_eq!(code_of(&signed_with(&critical, &claims)).await, Code::TokenInvalid);
    let mut typed = Header::new(Algorithm::HS256);
    for (typ, is_good) in [("at+jwt", true), ("application/JWT", true), ("id+jwt", false), ("JOSE", false)] {
        typed.typ = Some(typ.into());
        assert_eq!(verify(&signed_with(&typed, &claims)).await.is_ok(), is_good, "{typ}");
    }
}

#[tokio::test]
async fn issuer_and_audience_are_required_where_configured() {
    let mut strict = config();
    strict.auth.issuer = "https://id.example".into();
    strict.auth.audience = "chat".into();
    let verifier = Authenticator::new(&strict).unwrap();
    let (bare, _) = development_token(&config(), "alice", None, 60).unwrap();
    assert_eq!(verifier.verify(&bare).await.unwrap_err().code, Code::TokenInvalid);
    let (full, _) = development_token(&strict, "alice", None, 60).unwrap();
    assert!(verifier.verify(&full).await.is_ok());
    let both = json!({ "sub": "alice", "exp": now_s() + 60, "iss": "https://id.example", "aud": ["other", "chat"] });
    assert!(verifier.verify(&signed(&both)).await.is_ok());
}

#[test]
fn development_tokens_need_development() {
    let mut config = config();
    config.development = false;
    assert!(development_token(&config, "alice", None, 60).is_err());
}

#[tokio::test]
async fn an_explanation_never_holds_the_signature() {
    let (token, _) = development_token(&config(), "alice", None, 60).unwrap();
    let explained = Authenticator::new(&config()).unwrap().explain(&token).await;
    assert_eq!(explained.claims.as_ref().unwrap()["sub"], "alice");
    let signature = token.rsplit_once('.').unwrap().1;
    assert!(!format!("{explained:?}").contains(signature));
    assert!(explained.verdict.is_ok());
}

/// An RSA public key is no secret: whoever signs with it by HS256 has signed nothing.
#[tokio::test]
async fn a_public_key_is_never_a_secret() {
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    let claims = json!({ "sub": "alice", "exp": now_s() + 60 });
    let key = EncodingKey::from_secret(pem.as_bytes());
    runtime::tls::install_provider();
    let confused = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    for secret in ["", SECRET] {
        let mut config = config();
        config.auth.hs256_secret = Secret::new(secret);
        config.auth.public_key_pem = Secret::new(pem);
        let refusal = Authenticator::new(&config).unwrap().verify(&confused).await.unwrap_err();
        assert_eq!(refusal.code, Code::TokenInvalid);
    }
}
