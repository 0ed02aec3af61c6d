//! Keys of a vhost: the public CURVE keys by which its backends over ZeroMQ are known.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use webrocket_wire::BackendKey;

use super::{answer::created, body::Body, state::Shared, vhosts};
use crate::control::{refusal::Refusal, request::Request};

/// The body of `POST …/keys`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
    key: String,
}

/// `GET …/keys`: `{"keys": [{"key"}, …]}`, in the same order each time.
pub(super) async fn list(
    State(api): Shared,
    Path(vhost): Path<String>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    let keys = api.control.ask(|reply| Request::ListKeys(path, reply)).await?;
    let keys: Vec<_> = keys.iter().map(description).collect();
    Ok(Json(json!({ "keys": keys })))
}

/// `POST …/keys`: `{"key"}`. Backends with this key are let in from now on.
pub(super) async fn add(
    State(api): Shared,
    Path(vhost): Path<String>,
    Body(body): Body<Add>,
) -> Result<Response, Refusal> {
    let path = vhosts::path(&vhost)?;
    let key = backend_key(&body.key)?;
    api.control.change(|reply| Request::AddKey(path, key, reply)).await?;
    Ok(created(&["vhosts", &vhost, "keys", &key.to_string()], description(&key)))
}

/// `DELETE …/keys/<key>`: all backends of the vhost are cut off; those with another key connect again.
pub(super) async fn remove(
    State(api): Shared,
    Path((vhost, key)): Path<(String, String)>,
) -> Result<impl IntoResponse, Refusal> {
    let path = vhosts::path(&vhost)?;
    let key = backend_key(&key)?;
    api.control.change(|reply| Request::RemoveKey(path, key, reply)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A key of the request. What is none may be a secret that was pasted here by mistake, so it is not repeated.
fn backend_key(text: &str) -> Result<BackendKey, Refusal> {
    text.parse().map_err(|error| Refusal::Invalid(format!("that is no key: {error}")))
}

fn description(key: &BackendKey) -> Value {
    json!({ "key": key.to_string() })
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body as HttpBody,
        http::{Request as HttpRequest, header},
    };

    use super::*;
    use crate::{
        control::{api::COOKIE, fake_node::Node, vhosts::KEYS_MAX},
        store::Store,
    };

    const KEYS: &str = "/vhosts/%2Fmoon/keys";

    async fn moon(store: Store) -> Node {
        let node = Node::start(store).await;
        node.ask("POST", "/vhosts", &json!({"path": "/moon"})).await;
        node
    }

    fn key(number: u32) -> BackendKey {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        BackendKey::from_bytes(bytes)
    }

    /// The keys that the exchange lets in to /moon.
    fn let_in(node: &Node) -> Vec<BackendKey> {
        let vhost = node.vhost().id;
        node.world.lock().unwrap().exchange.keys[&vhost].iter().copied().collect()
    }

    async fn add(node: &Node, vhost: &str, key: &BackendKey) -> u16 {
        node.ask("POST", &format!("/vhosts/{vhost}/keys"), &json!({ "key": key.to_string() })).await.0
    }

    #[tokio::test]
    async fn keys_come_and_go() {
        let store = Store::in_memory().unwrap();
        let node = moon(store.clone()).await;
        assert_eq!(node.get(KEYS).await, (200, json!({"keys": []})));
        let text = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
        let request = HttpRequest::post(KEYS).header(COOKIE, node.cookie.reveal());
        let body = HttpBody::from(json!({ "key": text }).to_string());
        let (status, headers, answer) = node.raw(request.body(body).unwrap()).await;
        let address = headers[header::LOCATION].to_str().unwrap().to_owned();
        assert_eq!((status, answer), (201, json!({ "key": text }).to_string()));
        assert_eq!(let_in(&node), [text.parse().unwrap()], "in effect once it is answered");
        add(&node, "%2Fmoon", &key(1)).await;
        let listed = json!({"keys": [{"key": key(1).to_string()}, {"key": text}]});
        assert_eq!(node.get(KEYS).await, (200, listed.clone()));
        node.stop().await;

        let node = Node::start(store).await;
        node.eventually(|world| world.exchange.is_serving.then_some(())).await;
        assert_eq!((node.get(KEYS).await.1, let_in(&node).len()), (listed, 2), "after a restart");
        assert_eq!(node.ask("DELETE", &address, &Value::Null).await, (204, Value::Null));
        assert_eq!(let_in(&node), [key(1)]);
        let error = json!({ "error": format!("the vhost has no key {text}") });
        assert_eq!(node.ask("DELETE", &address, &Value::Null).await, (404, error));
        node.stop().await;
    }

    #[tokio::test]
    async fn a_key_belongs_to_one_vhost() {
        let node = moon(Store::in_memory().unwrap()).await;
        node.ask("POST", "/vhosts", &json!({"path": "/sun"})).await;
        assert_eq!(add(&node, "%2Fmoon", &key(1)).await, 201);
        assert_eq!(add(&node, "%2Fmoon", &key(1)).await, 409);
        let body = json!({ "key": key(1).to_string() });
        let (status, error) = node.ask("POST", "/vhosts/%2Fsun/keys", &body).await;
        assert!(status == 409 && !error.to_string().contains("moon"), "{error}");
        let address = format!("/vhosts/%2Fsun/keys/{}", key(1));
        assert_eq!(node.ask("DELETE", &address, &Value::Null).await.0, 404);
        node.ask("DELETE", "/vhosts/%2Fmoon", &Value::Null).await;
        assert_eq!(add(&node, "%2Fsun", &key(1)).await, 201, "it was given up");
        assert_eq!(add(&node, "%2Fmoon", &key(2)).await, 404);
        node.stop().await;
    }

    #[tokio::test]
    async fn what_is_no_key_is_not_repeated() {
        let node = moon(Store::in_memory().unwrap()).await;
        for wrong in ["", "s3cr3t", "s3cr3t\" ", &"~".repeat(40)] {
            let (status, error) = node.ask("POST", KEYS, &json!({ "key": wrong })).await;
            let expected =
                json!({"error": "that is no key: a key is 40 characters of Z85, which are 32 bytes"});
            assert_eq!((status, error), (400, expected), "{wrong}");
        }
        for body in [json!({}), json!({"key": 1}), json!({"key": key(1).to_string(), "name": "x"})] {
            assert_eq!(node.ask("POST", KEYS, &body).await.0, 400, "{body}");
        }
        assert_eq!(node.ask("DELETE", &format!("{KEYS}/x"), &Value::Null).await.0, 400);
        node.stop().await;
    }

    #[tokio::test]
    async fn a_vhost_has_so_many_keys_and_no_more() {
        let store = Store::in_memory().unwrap();
        let node = moon(store.clone()).await;
        node.stop().await;
        for number in 1..KEYS_MAX {
            store.add_key(&"/moon".parse().unwrap(), key(number as u32)).unwrap();
        }
        let node = Node::start(store).await;
        node.eventually(|world| world.exchange.is_serving.then_some(())).await;
        assert_eq!(add(&node, "%2Fmoon", &key(0)).await, 201);
        let body = json!({ "key": key(9_999).to_string() });
        let refused = json!({"error": "the vhost has 1000 keys, and cannot have more"});
        assert_eq!(node.ask("POST", KEYS, &body).await, (403, refused));
        assert_eq!(let_in(&node).len(), KEYS_MAX);
        node.stop().await;
    }
}
