use std::collections::BTreeSet;

use axum::http::Method;
use reqwest::StatusCode;
use tidegate_wire::Digest;
use tidegate_wire::invitation::Pass;

use super::*;
use crate::api::routes;
use crate::api::types::*;
use crate::journal::JournalError;
use crate::ledger::{Decided, Ledger};
use crate::state::Record;
use crate::testing::{Fleet, found};

/// What may be done with a route, as `METHOD path: who`. Whoever changes the table changes this too.
const EXPECTED: &[&str] = &[
    "GET /healthz: anyone",
    "GET /metrics: viewer",
    "GET /metadata/{name}: device or viewer",
    "GET /blobs/{digest}: device or viewer",
    "POST /v1/enrol: anyone",
    "GET /v1/blobs/{digest}: viewer",
    "PUT /v1/blobs/{digest}: publisher",
    "POST /v1/metadata/targets: publisher",
    "POST /v1/metadata/root: admin",
    "GET /v1/trust: viewer",
    "GET /v1/releases/pending: viewer",
    "GET /v1/releases/pending/targets: viewer",
    "POST /v1/releases/pending/withdraw: publisher",
    "GET /v1/models: viewer",
    "GET /v1/models/{model}: viewer",
    "GET /v1/rollouts: viewer",
    "POST /v1/rollouts: operator",
    "GET /v1/rollouts/{id}: viewer",
    "POST /v1/rollouts/{id}/{command}: operator",
    "GET /v1/devices: viewer",
    "GET /v1/devices/{device}: viewer",
    "POST /v1/devices/{device}/revoke: operator",
    "DELETE /v1/devices/{device}: operator",
    "POST /v1/device-tokens: operator",
    "GET /v1/tokens: admin",
    "POST /v1/tokens: admin",
    "POST /v1/tokens/{name}/revoke: admin",
    "GET /v1/audit: viewer",
    "GET /v1/audit/head: viewer",
    "GET /v1/audit/export: viewer",
    "GET /v1/fleet: viewer",
];

#[test]
fn the_table_says_what_was_agreed() {
    let line = |Route { method, path, access }: Route| match access {
        Access::Anyone => format!("{method} {path}: anyone"),
        Access::Fleet => format!("{method} {path}: device or viewer"),
        Access::Role(role) => format!("{method} {path}: {role}"),
    };
    let lines: Vec<String> = routes().table().into_iter().map(line).collect();
    assert_eq!(lines, EXPECTED);
}

#[test]
fn a_role_covers_what_it_says_and_no_more() {
    use ApiRole::{Admin, Operator, Publisher, Viewer};
    let covered = |role: ApiRole| ApiRole::ALL.into_iter().filter(move |n| role.covers(*n));
    let covered = |role| covered(role).collect::<Vec<_>>();
    assert_eq!(covered(Viewer), [Viewer]);
    assert_eq!(covered(Operator), [Viewer, Operator]);
    assert_eq!(covered(Publisher), [Viewer, Publisher]);
    assert_eq!(covered(Admin), ApiRole::ALL);
}

/// Somebody with a token, or without.
struct Caller {
    what: &'static str,
    bearer: Option<String>,
    /// The role that they have, or how they are refused everywhere.
    role: Result<ApiRole, Rejection>,
}

fn request(name: &str, role: ApiRole) -> TokenRequest {
    let why = "a test".to_owned();
    TokenRequest { name: name.into(), role, from_ms: None, expires_seconds: None, why }
}

async fn token(fleet: &Fleet, request: &TokenRequest) -> Pass {
    let (status, body) = fleet.post("v1/tokens", request).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let pass: Pass = serde_json::from_str::<IssuedToken>(&body).unwrap().token.parse().unwrap();
    let found = (pass.controller.as_str(), pass.authority);
    assert_eq!(found, (fleet.server.url(), fleet.admin.authority));
    pass
}

/// A fleet in whose journal a token has expired.
async fn fleet_with_an_expired_token() -> (Fleet, String) {
    let dir = tempfile::tempdir().unwrap();
    let admin = found(&dir, &tidegate_trust::SigningKey::from_seed(&[9; 32]));
    let secret = crate::clock::secret();
    let record = Record::TokenIssued {
        name: "late".into(),
        token: secret.digest(),
        role: ApiRole::Admin,
        from_ms: None,
        expires_ms: Some(1),
    };
    let ledger = Ledger::open(&dir.path().join("journal")).unwrap();
    let decide = |_: &_, _| Ok::<_, JournalError>(Decided::one(record, "a test", ()));
    ledger.decide("nobody", decide).unwrap();
    drop(ledger);
    (Fleet::open(dir, admin).await, secret.bearer())
}

async fn callers(fleet: &Fleet, expired: String) -> Vec<Caller> {
    let mut callers = Vec::new();
    for role in ApiRole::ALL {
        let name = format!("a-{role}");
        let bearer = token(fleet, &request(&name, role)).await.bearer();
        callers.push(Caller { what: role.name(), bearer: Some(bearer), role: Ok(role) });
    }
    let gone = token(fleet, &request("gone", ApiRole::Admin)).await.bearer();
    let why = TokenRevocation { why: "a test".into() };
    let (status, body) = fleet.post("v1/tokens/gone/revoke", &why).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let from_ms = Some(crate::clock::now_ms() + 3_600_000);
    let early = TokenRequest { from_ms, ..request("early", ApiRole::Admin) };
    let early = token(fleet, &early).await.bearer();
    // The admin's own with one character changed.
    let mut near = fleet.admin.bearer().into_bytes();
    near[10] = if near[10] == b'A' { b'B' } else { b'A' };
    let near = String::from_utf8(near).unwrap();
    for (what, bearer, rejection) in [
        ("nobody", None, Rejection::NoToken),
        ("a revoked token", Some(gone), Rejection::RevokedToken),
        ("an expired token", Some(expired), Rejection::ExpiredToken),
        ("an early token", Some(early), Rejection::EarlyToken),
        ("a near miss", Some(near), Rejection::UnknownToken),
        ("half a token", Some(fleet.admin.bearer()[..20].to_owned()), Rejection::MalformedToken),
        ("garbage", Some("%%%".to_owned()), Rejection::MalformedToken),
    ] {
        callers.push(Caller { what, bearer, role: Err(rejection) });
    }
    callers
}

/// Asks for a route with values that lead nowhere; returns status and body.
async fn ask(fleet: &Fleet, method: &Method, path: &str, caller: &Caller) -> (StatusCode, String) {
    let digest = Digest::of(b"nothing").to_string();
    let path = path.trim_start_matches('/').replace("{digest}", &digest).replace("{id}", "77");
    let path = path.replace("{command}", "pause").replace("{name}", "none");
    let path = path.replace("{model}", "none").replace("{device}", "none");
    let request = fleet.nobody().request(method.clone(), fleet.url(&path));
    let request = match &caller.bearer {
        Some(bearer) => request.bearer_auth(bearer),
        None => request,
    };
    let response = request.json(&serde_json::json!({})).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

/// How often something was turned away, from `/metrics`.
async fn rejected(fleet: &Fleet, rejection: Rejection) -> u64 {
    let metrics = fleet.request(Method::GET, "metrics").send().await.unwrap();
    let (place, reason) = (rejection.place(), rejection.reason());
    let name = format!("tidegate_rejected_total{{where=\"{place}\",reason=\"{reason}\"}} ");
    let text = metrics.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
}

/// Every route, asked by everybody: let through exactly if the table says so, and each refusal is
/// counted under its reason.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_in_who_the_table_says_and_nobody_else() {
    let (fleet, expired) = fleet_with_an_expired_token().await;
    let mut refusals = std::collections::BTreeMap::<Rejection, u64>::new();
    for caller in callers(&fleet, expired).await {
        for Route { method, path, access } in routes().table() {
            let (status, body) = ask(&fleet, &method, path, &caller).await;
            let asked = format!("{method} {path} by {}: {status} {body}", caller.what);
            let role = match access {
                Access::Anyone => None,
                Access::Fleet => Some(ApiRole::Viewer),
                Access::Role(role) => Some(role),
            };
            let refusal = match (role, caller.role) {
                (None, _) => None,
                (Some(_), Err(rejection)) => Some((rejection, StatusCode::UNAUTHORIZED)),
                (Some(needed), Ok(role)) if role.covers(needed) => None,
                (Some(_), Ok(_)) => Some((Rejection::Role, StatusCode::FORBIDDEN)),
            };
            match refusal {
                None => {
                    assert_ne!(status, StatusCode::UNAUTHORIZED, "{asked}");
                    assert!(!body.contains("has the role"), "{asked}");
                    assert!(!status.is_server_error(), "{asked}");
                }
                Some((rejection, expected)) => {
                    assert_eq!(status, expected, "{asked}");
                    *refusals.entry(rejection).or_default() += 1;
                }
            }
            if let Some(bearer) = &caller.bearer {
                assert!(!body.contains(bearer.as_str()), "{asked}");
            }
        }
    }
    for (rejection, count) in refusals {
        assert_eq!(rejected(&fleet, rejection).await, count, "{rejection:?}");
    }
    // HEAD is asked for what GET is.
    let nobody = fleet.nobody().head(fleet.url("v1/models")).send().await.unwrap();
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
    fleet.server.stop().await;
}

/// Does what a route is for, so that it changes something, and returns what stands in the journal
/// for it: the kind, and whether somebody with a token did it.
async fn change(fleet: &Fleet, route: &Route) -> Option<(&'static str, &'static str)> {
    let why = TokenRevocation { why: "a test".into() };
    let done = match (route.method.as_str(), route.path) {
        ("POST", "/v1/enrol") => {
            fleet.join("pi-1").await;
            return Some(("device-enrolled", "device pi-1"));
        }
        // Bytes under their own name: nothing runs or counts because of them.
        ("PUT", "/v1/blobs/{digest}") => return None,
        ("POST", "/v1/metadata/targets") => {
            fleet.publish(None, "1.0.0").await;
            "release-published"
        }
        // Several keys sign: `release` has these tests.
        ("POST", "/v1/metadata/root" | "/v1/releases/pending/withdraw") => return None,
        ("POST", "/v1/rollouts") => {
            let start = serde_json::json!({
                "model": "digits", "version": "1.0.0", "why": "a test",
            });
            assert_eq!(fleet.post("v1/rollouts", &start).await.0, StatusCode::CREATED);
            "rollout-started"
        }
        ("POST", "/v1/rollouts/{id}/{command}") => {
            assert_eq!(fleet.post("v1/rollouts/1/pause", &why).await.0, StatusCode::OK);
            "rollout-changed"
        }
        ("POST", "/v1/devices/{device}/revoke") => {
            assert_eq!(fleet.revoke("pi-1").await, StatusCode::NO_CONTENT);
            "device-revoked"
        }
        ("DELETE", "/v1/devices/{device}") => {
            let path = "v1/devices/pi-1?why=scrapped";
            let removed = fleet.request(Method::DELETE, path).send().await.unwrap();
            assert_eq!(removed.status(), StatusCode::NO_CONTENT);
            "device-removed"
        }
        ("POST", "/v1/device-tokens") => {
            fleet.invite(1).await;
            "device-token-issued"
        }
        ("POST", "/v1/tokens") => {
            token(fleet, &request("berta", ApiRole::Viewer)).await;
            "token-issued"
        }
        ("POST", "/v1/tokens/{name}/revoke") => {
            assert_eq!(fleet.post("v1/tokens/berta/revoke", &why).await.0, StatusCode::OK);
            "token-revoked"
        }
        (method, path) => panic!("say here how {method} {path} is journaled"),
    };
    Some((done, "admin"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_in_the_journal_with_who_and_why() {
    let fleet = Fleet::start().await;
    for route in routes().table() {
        if route.method == Method::GET {
            continue;
        }
        let before: AuditPage = fleet.get("v1/audit").await;
        let Some((kind, who)) = change(&fleet, &route).await else { continue };
        let after: AuditPage = fleet.get("v1/audit").await;
        let new = &after.entries[before.entries.len()..];
        let said = new.iter().find(|entry| entry.kind == kind && entry.who == who);
        let said = said.unwrap_or_else(|| panic!("{route:?} left {new:?}"));
        assert!(!said.why.is_empty(), "{said:?}");
    }
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_listed_without_secrets_and_the_last_admin_stays() {
    let mut fleet = Fleet::start().await;
    let berta = token(&fleet, &request("berta", ApiRole::Admin)).await;
    let again = fleet.post("v1/tokens", &request("berta", ApiRole::Viewer)).await;
    assert_eq!(again.0, StatusCode::CONFLICT, "{}", again.1);
    let list = fleet.request(Method::GET, "v1/tokens").send().await.unwrap().text().await.unwrap();
    for pass in [&fleet.admin, &berta] {
        assert!(!list.contains(&pass.bearer()), "{list}");
    }
    let list: TokenList = serde_json::from_str(&list).unwrap();
    let names: BTreeSet<&str> = list.tokens.iter().map(|token| token.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["admin", "berta"]));
    let used = |name: &str| list.tokens.iter().find(|t| t.name == name).unwrap().used_ms;
    assert!(used("admin").is_some() && used("berta").is_none());

    let why = TokenRevocation { why: "it was lost".into() };
    let (status, body) = fleet.post("v1/tokens/admin/revoke", &why).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (status, body) = fleet.post("v1/tokens", &request("carla", ApiRole::Viewer)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body.contains("the token of admin was revoked at"), "{body}");
    // Now berta's is the last one.
    fleet.admin = berta;
    let (status, body) = fleet.post("v1/tokens/berta/revoke", &why).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(body.contains("tidegate token create NAME --role admin"), "{body}");
    let audit: AuditPage = fleet.get("v1/audit").await;
    let revoked = audit.entries.iter().find(|entry| entry.kind == "token-revoked").unwrap();
    assert_eq!((revoked.who.as_str(), revoked.why.as_str()), ("admin", "it was lost"));
    fleet.server.stop().await;
}
