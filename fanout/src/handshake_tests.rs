use super::*;

fn headers(list: &[(header::HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(name, value.parse().expect("header"));
    }
    headers
}

#[test]
fn origins() {
    let allowed = ["https://app.example.com".to_owned(), "http://localhost:5173".to_owned()];
    let cases = [
        (None, true, "absent: not a browser"),
        (Some("http://chat.example.com:8080"), true, "the host itself"),
        (Some("https://app.example.com"), true, "configured"),
        (Some("http://localhost:5173"), true, "configured with a port"),
        (Some("null"), false, "a sandboxed page"),
        (Some("https://app.example.com.evil.org"), false, "suffix"),
        (Some("https://evilapp.example.com"), false, "prefix"),
        (Some("http://app.example.com"), false, "another scheme"),
        (Some("https://app.example.com:8443"), false, "another port"),
        (Some("http://chat.example.com"), false, "the host at another port"),
        (Some("https://evil.org"), false, "elsewhere"),
        (Some(""), false, "empty"),
        (Some("file://"), false, "a file"),
    ];
    for (origin, is_allowed, why) in cases {
        let headers = origin.map_or_else(HeaderMap::new, |origin| headers(&[(header::ORIGIN, origin)]));
        let verdict = check_origin(&headers, Some("chat.example.com:8080"), &allowed);
        assert_eq!(verdict.is_ok(), is_allowed, "{why}: {origin:?}");
    }
}

#[test]
fn default_ports_are_the_same_host() {
    let from = |origin: &str| headers(&[(header::ORIGIN, origin)]);
    assert!(check_origin(&from("https://chat.example.com"), Some("chat.example.com"), &[]).is_ok());
    assert!(check_origin(&from("https://chat.example.com"), Some("chat.example.com:443"), &[]).is_ok());
    assert!(check_origin(&from("http://chat.example.com:80"), Some("chat.example.com"), &[]).is_ok());
    assert!(check_origin(&from("http://chat.example.com"), Some("chat.example.com:443"), &[]).is_err());
    assert!(check_origin(&from("http://"), Some(""), &[]).is_err());
    assert!(check_origin(&from("http://a"), None, &[]).is_err());
}

#[test]
fn two_origins_are_none() {
    let headers = headers(&[(header::ORIGIN, "https://a.example"), (header::ORIGIN, "https://evil.org")]);
    assert!(check_origin(&headers, None, &["https://a.example".to_owned()]).is_err());
}

#[test]
fn tokens() {
    let code =
        |list: &[(header::HeaderName, &str)]| token(&headers(list)).map_err(|refused| refused.code).map(str::to_owned);
    assert_eq!(code(&[]), Err(Code::TokenMissing));
    assert_eq!(code(&[(header::SEC_WEBSOCKET_PROTOCOL, "waltalkie.v1")]), Err(Code::TokenMissing));
    assert_eq!(code(&[(header::AUTHORIZATION, "Bearer abc")]), Ok("abc".into()));
    assert_eq!(code(&[(header::AUTHORIZATION, "bearer abc")]), Ok("abc".into()));
    assert_eq!(code(&[(header::AUTHORIZATION, "Basic abc")]), Err(Code::TokenInvalid));
    assert_eq!(code(&[(header::SEC_WEBSOCKET_PROTOCOL, "waltalkie.v1, bearer.x.y.z")]), Ok("x.y.z".into()));
    assert_eq!(code(&[(header::AUTHORIZATION, &format!("Bearer {}", "x".repeat(9_000)))]), Err(Code::TokenInvalid));
}

#[test]
fn the_token_is_never_the_answered_protocol() {
    let browser = headers(&[(header::SEC_WEBSOCKET_PROTOCOL, "bearer.x, waltalkie.v1")]);
    assert_eq!(select_protocol(&browser).expect("offered").expect("answered"), PROTOCOL);
    assert_eq!(select_protocol(&HeaderMap::new()).expect("none offered"), None);
    assert!(select_protocol(&headers(&[(header::SEC_WEBSOCKET_PROTOCOL, "bearer.x")])).is_err());
}
