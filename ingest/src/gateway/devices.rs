//! `/v1/users/me/devices`: where a person can be told of messages. Kept here, used by whoever notifies; what is needed to
//! send to a device is never shown again.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use deadpool_postgres::Transaction;
use schemas::wire::client::Fields;
use schemas::wire::{Code, Rejection};
use schemas::{ids, timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use utoipa::ToSchema;

use super::caller::{Caller, JsonBody};
use super::{Problem, Shared};
use crate::profiles;
use crate::users::unavailable;

/// Most devices of a person.
const MOST_DEVICES: i64 = 20;
/// Longest address of a device, in bytes.
const ADDRESS_BYTES: usize = 4_096;

/// A device to tell of messages.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "read by the document's generator")]
pub(crate) struct NewDevice {
    /// The application's own; made if absent. The same one again replaces what is kept of it.
    #[schema(max_length = 64, pattern = "^[A-Za-z0-9._:-]+$")]
    device_id: Option<String>,
    platform: Platform,
    /// For people, such as `Alice's phone`.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Where to send: the endpoint of a Web Push subscription (https), or a token of FCM or APNs.
    #[schema(min_length = 1, max_length = 4096)]
    address: String,
    /// Of a Web Push subscription.
    keys: Option<PushKeys>,
}

/// Keys of a Web Push subscription, base64url.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "read by the document's generator")]
pub(crate) struct PushKeys {
    p256dh: String,
    auth: String,
}

/// By which service a device is reached.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Platform {
    Web,
    Android,
    Ios,
}

/// A device, without what is needed to send to it.
#[allow(clippy::struct_field_names, reason = "the contract's own field names")]
#[derive(Serialize, ToSchema)]
pub(crate) struct Device {
    device_id: String,
    #[schema(value_type = Platform)]
    platform: String,
    #[schema(required)]
    name: Option<String>,
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    created_at: i64,
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String, format = DateTime)]
    updated_at: i64,
}

/// One's devices.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeviceList {
    devices: Vec<Device>,
}

/// Keeps those apart that register the same address.
const HOLD_ADDRESS: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
const TAKE_ADDRESS: &str = "
    DELETE FROM user_device WHERE hashtextextended(address, 0) = hashtextextended($1, 0) AND address = $1 AND platform = $2
       AND NOT (user_id = $3 AND device_id = $4)";

const COLUMNS: &str = "device_id, platform, name, created_at, updated_at";

/// One's devices.
#[utoipa::path(get, path = "/v1/users/me/devices", operation_id = "list_devices", tag = "people",
    responses((status = 200, description = "By id", body = DeviceList)))]
pub(crate) async fn list(State(gateway): Shared, caller: Caller) -> Result<Json<DeviceList>, Problem> {
    let client = gateway.chat.pool().get().await.map_err(unavailable)?;
    let sql = format!("SELECT {COLUMNS} FROM user_device WHERE user_id = $1 ORDER BY device_id");
    let rows = client.query(&sql, &[&caller.user_id]).await.map_err(unavailable)?;
    Ok(Json(DeviceList { devices: rows.iter().map(device_of).collect() }))
}

/// Adds a device, or replaces one of the same id. An address is one device: who had it before, also somebody else, has it no
/// more.
#[utoipa::path(post, path = "/v1/users/me/devices", operation_id = "add_device", tag = "people",
    request_body = NewDevice,
    responses((status = 201, description = "The device", body = Device)))]
pub(crate) async fn add(
    State(gateway): Shared,
    caller: Caller,
    JsonBody(mut body): JsonBody,
) -> Result<(StatusCode, Json<Device>), Problem> {
    let wanted = Wanted::of(&mut body)?;
    if let ("web", Some(keys)) = (wanted.platform.as_str(), &wanted.keys) {
        let key = |name: &str| keys[name].as_str().unwrap_or_default();
        gateway.notify.check_browser(&wanted.address, key("p256dh"), key("auth"))?;
    }
    let mut client = gateway.chat.pool().get().await.map_err(unavailable)?;
    let transaction = client.transaction().await.map_err(unavailable)?;
    // The person's row keeps additions apart, so that there are never more than allowed.
    profiles::hold(&transaction, &caller.user_id).await?;
    wanted.take_address(&transaction, &caller.user_id).await.map_err(unavailable)?;
    let sql = "SELECT count(*) FROM user_device WHERE user_id = $1 AND device_id <> $2";
    let others: i64 =
        transaction.query_one(sql, &[&caller.user_id, &wanted.device_id]).await.map_err(unavailable)?.get(0);
    if others >= MOST_DEVICES {
        let rule = format!("A person has at most {MOST_DEVICES} devices: remove one first.");
        return Err(Rejection::new(Code::Conflict, rule).at("device_id").into());
    }
    let sql = format!(
        "INSERT INTO user_device (user_id, device_id, platform, name, address, keys, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp(), clock_timestamp())
         ON CONFLICT (user_id, device_id) DO UPDATE
            SET platform = $3, name = $4, address = $5, keys = $6, updated_at = clock_timestamp(), refusals = 0
         RETURNING {COLUMNS}"
    );
    let Wanted { device_id, platform, name, address, keys } = wanted;
    let row = transaction
        .query_one(&sql, &[&caller.user_id, &device_id, &platform, &name, &address, &keys])
        .await
        .map_err(unavailable)?;
    transaction.commit().await.map_err(unavailable)?;
    Ok((StatusCode::CREATED, Json(device_of(&row))))
}

/// Removes a device.
#[utoipa::path(delete, path = "/v1/users/me/devices/{device_id}", operation_id = "remove_device", tag = "people",
    params(("device_id" = String, Path)),
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn remove(
    State(gateway): Shared,
    caller: Caller,
    Path(device_id): Path<String>,
) -> Result<StatusCode, Problem> {
    let none = || Rejection::new(Code::NotFound, "You have no such device.").at("device_id");
    if !ids::is_valid(&device_id) {
        return Err(none().into());
    }
    let client = gateway.chat.pool().get().await.map_err(unavailable)?;
    let sql = "DELETE FROM user_device WHERE user_id = $1 AND device_id = $2";
    match client.execute(sql, &[&caller.user_id, &device_id]).await.map_err(unavailable)? {
        0 => Err(none().into()),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

fn device_of(row: &Row) -> Device {
    Device {
        device_id: row.get(0),
        platform: row.get(1),
        name: row.get(2),
        created_at: timestamp::from_offset(row.get(3)),
        updated_at: timestamp::from_offset(row.get(4)),
    }
}

#[derive(Debug)]
struct Wanted {
    device_id: String,
    platform: String,
    name: Option<String>,
    address: String,
    keys: Option<Value>,
}

impl Wanted {
    fn of(body: &mut Fields) -> Result<Self, Rejection> {
        let wrong = |field: &str, rule: &str| Rejection::new(Code::BadField, rule).at(field);
        let device_id = match body.optional_text("device_id")? {
            None => ids::new_id(),
            Some(id) if ids::is_valid(&id) => id,
            Some(_) => return Err(wrong("device_id", "device_id is 1 to 64 of A-Z a-z 0-9 . _ : -")),
        };
        let platform = body.text("platform")?;
        if !["web", "android", "ios"].contains(&platform.as_str()) {
            return Err(wrong("platform", "platform is web, android or ios."));
        }
        let name = body.optional_line("name")?;
        if name.as_ref().is_some_and(|name| name.trim().is_empty() || name.chars().count() > 200) {
            return Err(wrong("name", "name is a text of 1 to 200 characters."));
        }
        let address = body.text("address")?;
        if address.is_empty() || address.len() > ADDRESS_BYTES || address.chars().any(char::is_whitespace) {
            return Err(wrong("address", "address is 1 to 4096 bytes without white space."));
        }
        if platform == "ios" && !(address.len() >= 64 && address.len().is_multiple_of(2) && is_hexadecimal(&address)) {
            return Err(wrong("address", "The address of an ios device is its APNs token, in hexadecimal."));
        }
        if platform == "android" && !address.bytes().all(is_of_a_token) {
            let rule = "The address of an android device is its FCM registration token: A-Z a-z 0-9 : _ - only.";
            return Err(wrong("address", rule));
        }
        let is_web = platform == "web";
        if is_web && !address.starts_with("https://") {
            return Err(wrong("address", "The endpoint of a Web Push subscription begins with https://"));
        }
        let keys = match (body.optional("keys"), is_web) {
            (Some(keys), true) => {
                let part = |name: &str| keys[name].as_str().filter(|key| is_base64url(key)).map(str::to_owned);
                let (Some(p256dh), Some(auth)) = (part("p256dh"), part("auth")) else {
                    return Err(wrong("keys", "keys is {p256dh, auth} of the subscription, in base64url."));
                };
                Some(json!({ "p256dh": p256dh, "auth": auth }))
            }
            (None, true) => {
                return Err(Rejection::new(Code::MissingField, "A Web Push subscription has keys.").at("keys"));
            }
            (Some(_), false) => return Err(wrong("keys", "Only Web Push subscriptions have keys.")),
            (None, false) => None,
        };
        // Either spelling is the same device.
        let address = if platform == "ios" { address.to_ascii_lowercase() } else { address };
        Ok(Self { device_id, platform, name, address, keys })
    }

    /// Removes every other device of this address: whoever signed in on it last gets what is sent to it, nobody else.
    async fn take_address(&self, transaction: &Transaction<'_>, user_id: &str) -> Result<(), tokio_postgres::Error> {
        transaction.execute(HOLD_ADDRESS, &[&self.address]).await?;
        let values: [&(dyn ToSql + Sync); 4] = [&self.address, &self.platform, &user_id, &self.device_id];
        transaction.execute(TAKE_ADDRESS, &values).await.map(drop)
    }
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_of_a_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-')
}

fn is_base64url(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(body: &Value) -> Result<Wanted, Rejection> {
        Wanted::of(&mut Fields::of_body(body.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn devices_are_checked_field_by_field() {
        let keys = json!({ "p256dh": "BNc-_A", "auth": "tBHI" });
        let web = json!({ "platform": "web", "address": "https://push.example/1", "keys": keys });
        assert!(wanted(&web).is_ok());
        let token = |platform: &str, address: &str| wanted(&json!({ "platform": platform, "address": address }));
        assert_eq!(token("ios", &"A7".repeat(32)).unwrap().address, "a7".repeat(32));
        assert!(token("android", "cGh0bmU:APA91b_x-Y").is_ok());
        for (platform, address) in [
            ("ios", "token".to_owned()),
            ("ios", "0g".repeat(32)),
            ("ios", "a".repeat(65)),
            ("android", "a/b".to_owned()),
        ] {
            let refused = token(platform, &address).unwrap_err();
            assert_eq!(refused.field.as_deref(), Some("address"), "{platform} {address}");
        }
        for (field, value, wrong) in [
            ("platform", json!("pager"), "platform"),
            ("address", json!("http://push.example/1"), "address"),
            ("address", json!("https://push.example/ 1"), "address"),
            ("keys", Value::Null, "keys"),
            ("keys", json!({ "p256dh": "BNc", "auth": "not base64!" }), "keys"),
            ("device_id", json!("a b"), "device_id"),
            ("name", json!(""), "name"),
        ] {
            let mut body = web.clone();
            body[field] = value;
            assert_eq!(wanted(&body).unwrap_err().field.as_deref(), Some(wrong), "{body}");
        }
    }
}
