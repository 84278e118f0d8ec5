//! Uploads in parts: begun, looked at, put together and given up here; the parts come from clients.

use std::fmt::Write as _;
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::events::Event;
use reqwest::header::CONTENT_TYPE;
use rusty_s3::Method;

use super::{OWN_TTL, S3Error, Store};

/// Parts that a store lists at a time.
const PAGE: usize = 1_000;

/// A part that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// Bytes.
    pub size_bytes: u64,
    /// As the store has it; empty if it has none.
    pub etag: String,
}

impl Store {
    /// Begins an upload in parts; gives its id.
    pub async fn begin_parts(&self, key: &str, content_type: &str) -> Result<String, S3Error> {
        let doing = "beginning an upload";
        let headers = vec![("content-type", content_type.to_owned())];
        let answer = self.ask(doing, Method::Post, key, &[("uploads", "")], headers, None).await?;
        let ids = texts_of(&answer, "UploadId");
        let none = || S3Error::Away { doing, detail: "its answer names no UploadId".into() };
        ids.into_iter().next().filter(|id| !id.is_empty()).ok_or_else(none)
    }

    /// The parts that are there, by number.
    pub async fn parts(&self, key: &str, upload_id: &str) -> Result<Vec<Part>, S3Error> {
        let mut parts: Vec<Part> = Vec::new();
        loop {
            let after = parts.last().map_or(0, |part| part.number).to_string();
            let query = [("part-number-marker", after.as_str()), ("uploadId", upload_id)];
            let answer = self.ask("looking at an upload", Method::Get, key, &query, Vec::new(), None).await?;
            let mut page = parts_of(&answer);
            page.sort_unstable_by_key(|part| part.number);
            let known = parts.last().map_or(0, |part| part.number);
            page.retain(|part| part.number > known);
            let is_last = page.is_empty() || !texts_of(&answer, "IsTruncated").iter().any(|text| text == "true");
            parts.extend(page);
            if is_last || parts.len() > 10 * PAGE {
                return Ok(parts);
            }
        }
    }

    /// Puts the parts together.
    pub async fn complete_parts(&self, key: &str, upload_id: &str, parts: &[Part]) -> Result<(), S3Error> {
        let doing = "putting an upload together";
        let mut body = String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for Part { number, etag, .. } in parts {
            let etag = quick_xml::escape::escape(etag.as_str());
            let _ = write!(body, "<Part><PartNumber>{number}</PartNumber>");
            if !etag.is_empty() {
                let _ = write!(body, "<ETag>{etag}</ETag>");
            }
            body.push_str("</Part>");
        }
        body.push_str("</CompleteMultipartUpload>");
        let answer = self.ask(doing, Method::Post, key, &[("uploadId", upload_id)], Vec::new(), Some(body)).await?;
        put_together(doing, &answer)
    }

    /// Gives an upload up with all its parts. One that isn't there is given up already.
    pub async fn abort_parts(&self, key: &str, upload_id: &str) -> Result<(), S3Error> {
        let query = [("uploadId", upload_id)];
        match self.ask("giving an upload up", Method::Delete, key, &query, Vec::new(), None).await {
            Err(S3Error::Absent { .. }) => Ok(()),
            // What the local store says of an upload that is gone. Only a list without parts proves it.
            Err(S3Error::Refused { detail, .. }) if detail.contains("AccessDenied") => {
                match self.parts(key, upload_id).await {
                    Ok(parts) if parts.is_empty() => Ok(()),
                    Err(error) if error.is_absent() => Ok(()),
                    Ok(_) => Err(S3Error::Refused { doing: "giving an upload up", detail }),
                    Err(error) => Err(error),
                }
            }
            other => other.map(drop),
        }
    }

    async fn ask(
        &self,
        doing: &'static str,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
        headers: Vec<(&'static str, String)>,
        body: Option<String>,
    ) -> Result<String, S3Error> {
        let signed = self.signed(&self.inside, method, key, query, headers, OWN_TTL).await?;
        let verb = match method {
            Method::Post => reqwest::Method::POST,
            Method::Delete => reqwest::Method::DELETE,
            Method::Put => reqwest::Method::PUT,
            Method::Head => reqwest::Method::HEAD,
            Method::Get => reqwest::Method::GET,
        };
        let mut request = self.http.request(verb, &signed.url).timeout(Duration::from_secs(60));
        for (name, value) in &signed.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/xml").body(body);
        }
        let answer = request.send().await.map_err(S3Error::of_http(doing))?;
        let status = answer.status();
        let text = answer.text().await.map_err(S3Error::of_http(doing))?;
        if status.is_success() {
            return Ok(text);
        }
        let codes = texts_of(&text, "Code");
        Err(S3Error::of_status(doing, status.as_u16(), codes.first().map_or("", String::as_str)))
    }
}

/// A store may answer 200 before it knows, and say in the body that it failed.
fn put_together(doing: &'static str, answer: &str) -> Result<(), S3Error> {
    match texts_of(answer, "Code").first() {
        Some(code) => Err(S3Error::Away { doing, detail: code.clone() }),
        None => Ok(()),
    }
}

/// The texts of all elements of a name, whatever their namespace.
fn texts_of(xml: &str, element: &str) -> Vec<String> {
    let mut texts = Vec::new();
    walk(xml, |path, text| {
        if path.last().is_some_and(|name| name == element) {
            texts.push(text.to_owned());
        }
    });
    texts
}

fn parts_of(xml: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut seen = 0;
    walk_elements(xml, |event| match event {
        Element::Begins("Part") => {
            parts.push(Part::default());
            seen = parts.len();
        }
        Element::Text(path, text) => {
            let within = path.len() >= 2 && path[path.len() - 2] == "Part";
            if let (true, Some(part)) = (within && seen > 0, parts.last_mut()) {
                match path[path.len() - 1].as_str() {
                    "PartNumber" => part.number = text.parse().unwrap_or_default(),
                    "Size" => part.size_bytes = text.parse().unwrap_or_default(),
                    "ETag" => part.etag.push_str(text),
                    _ => {}
                }
            }
        }
        Element::Begins(_) => {}
    });
    parts.retain(|part| part.number > 0);
    parts
}

enum Element<'a> {
    Begins(&'a str),
    Text(&'a [String], &'a str),
}

fn walk(xml: &str, mut take: impl FnMut(&[String], &str)) {
    walk_elements(xml, |event| {
        if let Element::Text(path, text) = event {
            take(path, text);
        }
    });
}

/// Goes through a document as far as it can be read: what is missing shows as missing.
fn walk_elements(xml: &str, mut take: impl FnMut(Element<'_>)) {
    let mut reader = Reader::from_str(xml);
    let mut path: Vec<String> = Vec::new();
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => {
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                take(Element::Begins(&name));
                path.push(name);
            }
            Ok(Event::End(_)) => {
                path.pop();
            }
            Ok(Event::Text(text)) => {
                if let Ok(text) = text.decode() {
                    take(Element::Text(&path, text.trim()));
                }
            }
            // `&quot;` around an ETag.
            Ok(Event::GeneralRef(reference)) => {
                let text = match reference.decode().as_deref() {
                    Ok("quot" | "#34") => "\"",
                    Ok("amp") => "&",
                    _ => continue,
                };
                take(Element::Text(&path, text));
            }
            Ok(Event::Eof) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_with_and_without_what_some_stores_leave_out() {
        // The example of the API reference, ListParts.
        let amazons = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListPartsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>b</Bucket>
              <UploadId>XXBsb2FkIElEIGZvciBlbHZpbmcncyVcdS1tb3ZpZS5tMnRzEEEwbG9hZA</UploadId>
              <Owner><ID>1</ID></Owner><IsTruncated>true</IsTruncated>
              <Part><PartNumber>2</PartNumber><LastModified>2010-11-10T20:48:34.000Z</LastModified>
                <ETag>"7778aef83f66abc1fa1e8477f296d394"</ETag><Size>10485760</Size></Part>
              <Part><PartNumber>3</PartNumber><ETag>&quot;aaaa18db4cc2f85cedef654fccc4a4x8&quot;</ETag><Size>5</Size></Part>
            </ListPartsResult>"#;
        let part = |number, size_bytes, etag: &str| Part { number, size_bytes, etag: etag.into() };
        assert_eq!(
            parts_of(amazons),
            [
                part(2, 10_485_760, "\"7778aef83f66abc1fa1e8477f296d394\""),
                part(3, 5, "\"aaaa18db4cc2f85cedef654fccc4a4x8\"")
            ]
        );
        assert_eq!(texts_of(amazons, "IsTruncated"), ["true"]);
        let bare = "<ListPartsResult><Part><PartNumber>1</PartNumber><Size>7</Size></Part></ListPartsResult>";
        assert_eq!(parts_of(bare), [part(1, 7, "")]);
        assert_eq!(parts_of("<ListPartsResult/>"), []);
        assert_eq!(parts_of("no XML"), []);
    }

    #[test]
    fn an_error_is_found_by_its_code() {
        let text = "<Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>";
        assert_eq!(texts_of(text, "Code"), ["NoSuchUpload"]);
        // Also where the answer began as a good one.
        let failed = put_together("putting an upload together", "<Error><Code>InternalError</Code></Error>");
        assert!(failed.is_err_and(|error| error.is_transient()));
        let done = "<CompleteMultipartUploadResult><ETag>&quot;e-2&quot;</ETag></CompleteMultipartUploadResult>";
        assert!(put_together("putting an upload together", done).is_ok());
    }
}
