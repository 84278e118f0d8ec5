//! An application's backend: it makes people and chats, acts in their name, posts as the system, and removes people.

use anyhow::{Context, Result, ensure};
use schemas::topics::Topic;
use serde_json::{Value, json};
use waltalkie_tests::harness::{Installation, LONG, Person, Servers, read_all, until};

const ALL: &str = "users:write users:remove users:revoke chats:write chats:read messages:system act:users";

fn service(installation: &Installation, gateway: &str) -> Result<Person> {
    let token = ingest::auth::development_service_token(&installation.config()?, "backend", ALL, 600)?.0;
    Ok(Person::with_token(gateway, "backend", &token))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_makes_people_and_chats_and_speaks_in_them() -> Result<()> {
    let installation = Installation::make("service").await?;
    let process = installation.run(&["all"]).await?;
    let (config, gateway) = (installation.config()?, process.gateway()?);
    let service = service(&installation, gateway)?;
    let truth = installation.truth().await?;

    // People: made, left alone by the same again, replaced as a whole.
    let profile = json!({ "name": "Alice", "email": "alice@example.com", "avatar_url": "https://example.com/a.png" });
    let made = service.put("/v1/users/alice", profile.clone()).await?.expect(201)?;
    ensure!(made["user_id"] == "alice" && made["email"] == "alice@example.com", "{made}");
    service.put("/v1/users/alice", profile).await?.expect(200)?;
    let renamed = service.put("/v1/users/alice", json!({ "name": "Alice W." })).await?.expect(200)?;
    ensure!(renamed["name"] == "Alice W." && renamed["email"].is_null(), "{renamed}");
    let versions: i64 = truth.query_one("SELECT count(*) FROM user_change", &[]).await?.get(0);
    ensure!(versions == 2, "{versions} versions");
    for (field, value) in
        [("name", json!("")), ("email", json!("nobody")), ("avatar_url", json!("http://x")), ("name", json!(7))]
    {
        service.put("/v1/users/bad", json!({ field: value })).await?.expect_problem(400, "bad_field", Some(field))?;
    }
    service.put("/v1/users/bob", json!({ "name": "Bob" })).await?.expect(201)?;
    service.put("/v1/users/carol", json!({})).await?.expect(201)?;

    // A chat: made once, whatever is repeated; what is named changes, the rest stays.
    let members = json!([{ "user_id": "alice", "role": "owner" }, { "user_id": "bob" }]);
    let wish = json!({ "name": "Order 7", "members": members, "app_data": { "order": 7 } });
    let made = service.put("/v1/chats/order-7", wish.clone()).await?.expect(201)?;
    ensure!(made["head_seq"] == 1 && made["member_count"] == 2 && made["app_data"]["order"] == 7, "{made}");
    let again = service.put("/v1/chats/order-7", wish).await?.expect(200)?;
    ensure!(again == made, "{again}");
    let more =
        json!({ "name": "Order 7, late", "members": [{ "user_id": "carol" }, { "user_id": "bob", "role": "admin" }] });
    let changed = service.put("/v1/chats/order-7", more).await?.expect(200)?;
    ensure!(changed["head_seq"] == 4 && changed["member_count"] == 3 && changed["app_data"]["order"] == 7, "{changed}");
    let alone = json!({ "members": [{ "user_id": "bob" }] });
    service.put("/v1/chats/no-owner", alone).await?.expect_problem(400, "bad_field", Some("members"))?;
    let unknown = json!({ "members": [{ "user_id": "nobody", "role": "owner" }] });
    service.put("/v1/chats/unknown", unknown).await?.expect_problem(404, "user_not_found", Some("members"))?;
    let pair = json!({ "is_group": false, "members": [{ "user_id": "alice" }, { "user_id": "bob" }] });
    service.put("/v1/chats/pair", pair.clone()).await?.expect_problem(400, "bad_field", Some("chat_id"))?;
    let direct = schemas::ids::one_to_one_chat("alice", "bob");
    service.put(&format!("/v1/chats/{direct}"), pair).await?.expect(201)?;

    // As the system: seen by members like any message, though its sender is in no chat.
    let alice = Person::arrive(&config, gateway, "alice").await?;
    let mut here = alice.connect().await?;
    let messages = "/v1/chats/order-7/messages";
    let posted = service.post(messages, json!({ "content": "Your order was shipped." })).await?.expect(201)?;
    ensure!(posted["sender_id"] == "waltalkie:system" && posted["seq"] == 5, "{posted}");
    let heard = here.wait("message", |message| message["content"] == "Your order was shipped.").await?;
    ensure!(heard["sender_id"] == "waltalkie:system", "{heard}");
    let path = format!("{messages}/{}", posted["message_id"].as_str().context("no id")?);
    service.patch(&path, json!({ "content": "Your order was delivered." })).await?.expect(200)?;
    here.wait("message_edited", |message| message["content"] == "Your order was delivered.").await?;
    alice.patch(&path, json!({ "content": "mine" })).await?.expect_problem(
        404,
        "message_not_found",
        Some("message_id"),
    )?;
    let elsewhere = service.post("/v1/chats/nowhere/messages", json!({ "content": "hello?" })).await?;
    elsewhere.expect_problem(404, "chat_not_found", Some("chat_id"))?;
    let page = service.get(messages).await?.expect(200)?;
    ensure!(page["messages"].as_array().is_some_and(|messages| messages.len() == 1), "{page}");
    let listed = service.get("/v1/chats/order-7/members").await?.expect(200)?;
    ensure!(listed["members"].as_array().is_some_and(|members| members.len() == 3), "{listed}");
    service.get("/v1/chats/order-7").await?.expect(200)?;

    // In somebody's name: no more than they may themselves.
    let bob = service.as_if("bob");
    let said = bob.post(messages, json!({ "content": "Thanks!" })).await?.expect(201)?;
    ensure!(said["sender_id"] == "bob", "{said}");
    here.wait("message", |message| message["sender_id"] == "bob" && message["content"] == "Thanks!").await?;
    ensure!(bob.get("/v1/users/me").await?.expect(200)?["user_id"] == "bob");
    service.as_if("carol").delete("/v1/chats/order-7/members/alice").await?.expect_problem(403, "forbidden", None)?;
    bob.get("/v1/chats/nowhere").await?.expect_problem(404, "chat_not_found", Some("chat_id"))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_person_is_gone_from_everywhere() -> Result<()> {
    let installation = Installation::make("removed").await?;
    let process = installation.run(&["all"]).await?;
    let (config, gateway) = (installation.config()?, process.gateway()?);
    let service = service(&installation, gateway)?;
    service.put("/v1/users/alice", json!({ "name": "Alice", "email": "alice@example.com" })).await?.expect(201)?;
    let alice = Person::arrive(&config, gateway, "alice").await?;
    let bob = Person::arrive(&config, gateway, "bob").await?;
    let carol = Person::arrive(&config, gateway, "carol").await?;
    let group = alice.make_group(&[&bob, &carol], json!({})).await?;
    let alone = alice.make_group(&[], json!({})).await?;
    let direct = alice.post("/v1/chats", json!({ "is_group": false, "member_ids": ["bob"] })).await?.expect(201)?;
    let direct = direct["chat_id"].as_str().context("no chat_id")?;
    alice.say(&group, "before").await?;
    let role = json!({ "role": "admin" });
    alice.patch(&format!("/v1/chats/{group}/members/carol"), role).await?.expect(200)?;
    let device = json!({ "platform": "ios", "address": "0a".repeat(32) });
    alice.post("/v1/users/me/devices", device).await?.expect(201)?;
    alice.patch("/v1/users/me/settings", json!({ "email": true })).await?.expect(200)?;
    let (mut hers, mut his) = (alice.connect().await?, bob.connect().await?);

    let removed = service.delete("/v1/users/alice").await?.expect(200)?;
    ensure!(removed["state"] == "removed", "{removed}");
    ensure!(hers.closed().await? == Some(4102));

    // Each chat has its event, and the group an owner.
    let updated = his.wait("member_updated", |event| event["chat_id"] == group.as_str() && event["seq"] == 4).await?;
    ensure!(
        updated["memberships"][0]["user_id"] == "carol" && updated["memberships"][0]["role"] == "owner",
        "{updated}"
    );
    let left = his.wait("member_left", |event| event["chat_id"] == group.as_str()).await?;
    ensure!(left["seq"] == 5 && left["actor_id"] == "waltalkie:system", "{left}");
    ensure!(left["memberships"][0]["user_id"] == "alice" && left["memberships"][0]["left_seq"] == 5, "{left}");
    his.wait("member_left", |event| event["chat_id"] == direct).await?;
    carol.patch(&format!("/v1/chats/{group}"), json!({ "name": "Ours" })).await?.expect(200)?;
    let page = bob.get(&format!("/v1/chats/{group}/messages")).await?.expect(200)?;
    ensure!(page["messages"][0]["content"] == "before", "{page}");

    // Nothing of her profile is left in the tables.
    let truth = installation.truth().await?;
    let sql = "SELECT count(*) FROM chat_member WHERE user_id = 'alice' AND left_seq IS NULL";
    ensure!(truth.query_one(sql, &[]).await?.get::<_, i64>(0) == 0);
    let sql = "SELECT (SELECT count(*) FROM \"user\" u WHERE u.id = 'alice' AND (u.name, u.email) IS NOT NULL)
                    + (SELECT count(*) FROM user_change c WHERE c.user_id = 'alice' AND coalesce(c.name, c.email) IS NOT NULL)";
    ensure!(truth.query_one(sql, &[]).await?.get::<_, i64>(0) == 0);
    ensure!(bob.get("/v1/users?ids=alice").await?.expect(200)?["users"] == json!([]));

    let sql = "SELECT (SELECT count(*) FROM user_device) + (SELECT count(*) FROM user_settings)";
    ensure!(truth.query_one(sql, &[]).await?.get::<_, i64>(0) == 0, "her device or settings are still there");

    // A tombstone ends the compacted record.
    until("the tombstone on chat.users", LONG, async || {
        let records = read_all(&config, Topic::ChatUsers).await?;
        let last = records.iter().rfind(|record| record.key == "alice");
        Ok(last.is_some_and(|record| record.value.is_none()).then_some(()))
    })
    .await?;

    // She isn't there any more, for anybody; her id isn't given again; and again changes nothing.
    let user_not_found =
        |answer: waltalkie_tests::harness::Answer, field| answer.expect_problem(404, "user_not_found", field);
    user_not_found(service.as_if("alice").get("/v1/chats").await?, Some("On-Behalf-Of"))?;
    let add = json!({ "user_ids": ["alice"] });
    user_not_found(carol.post(&format!("/v1/chats/{group}/members"), add).await?, Some("user_ids"))?;
    user_not_found(service.delete("/v1/users/nobody").await?, Some("user_id"))?;
    service.put("/v1/users/alice", json!({})).await?.expect_problem(409, "conflict", Some("user_id"))?;
    service.delete("/v1/users/alice").await?.expect(200)?;
    let heads: i64 = truth.query_one("SELECT last_seq FROM chat_counter WHERE chat_id = $1", &[&group]).await?.get(0);
    ensure!(heads == 6, "{heads}");
    let sql = "SELECT count(*) FROM chat_member WHERE chat_id = $1 AND left_seq IS NULL";
    ensure!(truth.query_one(sql, &[&alone]).await?.get::<_, i64>(0) == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_has_limits_of_its_own() -> Result<()> {
    let settings = [
        ("limits.requests_per_s", "1"),
        ("limits.requests_burst", "5"),
        ("limits.commands_per_s", "1"),
        ("limits.commands_burst", "1"),
        ("limits.service_requests_per_s", "1"),
        ("limits.service_requests_burst", "40"),
    ];
    let installation = Installation::make_on(Servers::shared()?, "service-limits", &settings).await?;
    let process = installation.run(&["all"]).await?;
    let gateway = process.gateway()?;
    let service = service(&installation, gateway)?;
    service.put("/v1/users/alice", json!({})).await?.expect(201)?;
    let members = json!([{ "user_id": "alice", "role": "owner" }]);
    service.put("/v1/chats/one", json!({ "members": members })).await?.expect(201)?;
    // Past the address' limit and a person's.
    for number in 0..20 {
        let sender = if number % 2 == 0 { service.clone() } else { service.as_if("alice") };
        sender.post("/v1/chats/one/messages", json!({ "content": "one of many" })).await?.expect(201)?;
    }
    // A person at the same address has no part in it, nor has a token that only claims to be a service's.
    let person = Person::with_token(
        gateway,
        "alice",
        &ingest::auth::development_token(&installation.config()?, "alice", None, 60)?.0,
    );
    let mut forged = service.clone();
    forged.token.pop();
    for other in [person, forged] {
        until("the address to be refused", LONG, async || {
            let answer = other.get("/v1/users/me").await?;
            Ok((answer.status == 429).then_some(()))
        })
        .await?;
    }
    until("the service to be refused", LONG, async || {
        let answer = service.get("/v1/chats/one").await?;
        if answer.status == 429 {
            answer.expect_problem(429, "rate_limited", None)?;
            return Ok(Some(()));
        }
        Ok(None::<()>)
    })
    .await?;
    ensure!(process.metric("waltalkie_gateway_limited_total{limit=\"service\"}").await? > 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_starts_chats_is_a_setting() -> Result<()> {
    let installation = Installation::make("start-chats").await?;
    let everything = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let gateway = everything.gateway()?;
    let service = service(&installation, gateway)?;
    let [alice, bob, carol] = ["alice", "bob", "carol"];
    let mut people = Vec::new();
    for name in [alice, bob, carol] {
        people.push(Person::arrive(&config, gateway, name).await?);
    }
    people[0].make_group(&[&people[1]], json!({ "chat_id": "both" })).await?;
    let direct = |other: &str| json!({ "is_group": false, "member_ids": [other] });
    let not_found = |answer: waltalkie_tests::harness::Answer, field: &'static str| -> Result<Value> {
        answer.expect_problem(404, "user_not_found", Some(field))?;
        Ok(json!([answer.body["detail"], answer.body["title"]]))
    };

    // With people one shares a chat with; others are like people who don't exist.
    let shared = installation.run_with(&["gateway"], &[("people.start_chats", "shared")]).await?;
    let here = people[0].at(shared.gateway()?);
    here.post("/v1/chats", direct(bob)).await?.expect(201)?;
    not_found(here.post("/v1/chats", direct(carol)).await?, "member_ids")?;
    not_found(here.post("/v1/chats", direct("nobody")).await?, "member_ids")?;
    not_found(here.post("/v1/chats", json!({ "member_ids": [bob, carol] })).await?, "member_ids")?;
    // Of several the first is named, whether there is such a person or not.
    for (first, second) in [(carol, "zoe-is-nobody"), ("abe-is-nobody", carol)] {
        let refused = here.post("/v1/chats", json!({ "member_ids": [second, first] })).await?;
        let named = not_found(refused, "member_ids")?;
        ensure!(named.to_string().contains(first), "{named} instead of {first}");
    }
    not_found(here.post("/v1/chats/both/members", json!({ "user_ids": [carol] })).await?, "user_ids")?;
    service.at(shared.gateway()?).as_if(alice).post("/v1/chats", direct(carol)).await?.expect(201)?;
    here.post("/v1/chats/both/members", json!({ "user_ids": [carol] })).await?.expect(201)?;

    let services = installation.run_with(&["gateway"], &[("people.start_chats", "services")]).await?;
    let here = people[1].at(services.gateway()?);
    // Whoever may start none isn't told by the answer who is there.
    for wish in [direct(carol), direct("nobody"), json!({ "member_ids": [carol] }), json!({ "member_ids": ["nobody"] })]
    {
        let refused = here.post("/v1/chats", wish).await?;
        refused.expect_problem(403, "forbidden", None)?;
        ensure!(refused.body["detail"] == "Chats are started by the application here, not by people.", "{refused:?}");
    }
    // One that is there is theirs all the same.
    let there = people[0].at(services.gateway()?);
    there.post("/v1/chats", direct(bob)).await?.expect(200)?;
    let application = service.at(services.gateway()?);
    application.as_if(bob).post("/v1/chats", direct(carol)).await?.expect(201)?;
    // An owner's own group is no way around it: only people they share a chat with come in, others are like nobody.
    let members = "/v1/chats/both/members";
    let dave = Person::arrive(&config, gateway, "dave").await?;
    for stranger in [dave.user_id.as_str(), "nobody"] {
        not_found(there.post(members, json!({ "user_ids": [stranger] })).await?, "user_ids")?;
    }
    there.post(members, json!({ "user_ids": [carol] })).await?.expect(201)?;
    application.as_if(alice).post(members, json!({ "user_ids": [dave.user_id] })).await?.expect(201)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_found_by_their_whole_address() -> Result<()> {
    let installation = Installation::make("by-email").await?;
    let process = installation.run(&["all"]).await?;
    let gateway = process.gateway()?;
    let service = service(&installation, gateway)?;
    service.put("/v1/users/bob", json!({ "name": "Bob", "email": "Bob@Example.com" })).await?.expect(201)?;
    let alice = Person::arrive(&installation.config()?, gateway, "alice").await?;
    let found = alice.get("/v1/users?email=bob%40example.com").await?.expect(200)?;
    ensure!(found["users"] == json!([{ "user_id": "bob", "name": "Bob", "avatar_url": null }]), "{found}");
    for other in ["bob", "bob%40example.co", "%25%40example.com", "b_b%40example.com"] {
        let none = alice.get(&format!("/v1/users?email={other}")).await?.expect(200)?;
        ensure!(none["users"] == json!([]), "{other}: {none}");
    }
    service.delete("/v1/users/bob").await?.expect(200)?;
    ensure!(alice.get("/v1/users?email=bob%40example.com").await?.expect(200)?["users"] == json!([]));
    let closed = installation.run_with(&["gateway"], &[("people.find_by_email", "false")]).await?;
    let answer = alice.at(closed.gateway()?).get("/v1/users?email=bob%40example.com").await?;
    answer.expect_problem(403, "forbidden", Some("email"))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_for_who_is_removed_meanwhile() -> Result<()> {
    let installation = Installation::make("removed-meanwhile").await?;
    let process = installation.run(&["all"]).await?;
    let dave = Person::arrive(&installation.config()?, process.gateway()?, "dave").await?;
    let (removing, truth) = (installation.truth().await?, installation.truth().await?);
    removing.batch_execute("BEGIN; UPDATE \"user\" SET removed_at = now() WHERE id = 'dave'").await?;
    let requests = async {
        let device = json!({ "platform": "ios", "address": "0a".repeat(32) });
        let settings = json!({ "email": true });
        tokio::try_join!(
            dave.post("/v1/users/me/devices", device),
            dave.patch("/v1/users/me/settings", settings),
            dave.patch("/v1/users/me", json!({ "name": "Dave again" })),
        )
    };
    let removal = async {
        // All three wait for the row that the removal holds.
        until("three to wait", LONG, async || {
            let sql = "SELECT count(*) FROM pg_stat_activity
                        WHERE wait_event_type = 'Lock' AND datname = current_database()";
            Ok((truth.query_one(sql, &[]).await?.get::<_, i64>(0) == 3).then_some(()))
        })
        .await?;
        removing.batch_execute("COMMIT").await.context("committing")
    };
    let ((device, settings, profile), ()) = tokio::try_join!(requests, removal)?;
    for refused in [device, settings, profile] {
        refused.expect_problem(404, "user_not_found", None)?;
    }
    let kept = "SELECT (SELECT count(*) FROM user_device) + (SELECT count(*) FROM user_settings)";
    ensure!(truth.query_one(kept, &[]).await?.get::<_, i64>(0) == 0, "something is kept");
    Ok(())
}
