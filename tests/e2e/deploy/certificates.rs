//! `deploy/broadcast/certificates` on a real API server: the patched workload and the Certificate are accepted, and its process
//! uses the Secret that cert-manager makes.

use kubekit::cluster;
use serde_json::{Value, json};
use testkit::{
    client::{RawClient, request_bytes},
    eventually,
    origin::{Origin, Reply},
    pki::{Authority, SecretDir},
    tls_relay::TlsRelay,
};

use super::{
    read,
    shipped::{Shipped, container, yaml},
};
use crate::process::Fanfare;

const SHIPPED: Shipped = Shipped("broadcast");
const COMPONENT: Shipped = Shipped("broadcast/certificates");

/// The patches of the component for objects of a kind.
fn patches(kind: &str) -> Vec<Value> {
    let text = read("deploy/broadcast/certificates/kustomization.yaml");
    let component: Value = serde_yaml::from_str(&text).expect("it is YAML");
    assert_eq!((&component["kind"], &component["resources"]), (&"Component".into(), &json!(["certificate.yaml"])));
    let patches = component["patches"].as_array().expect("a list");
    let of_kind = patches.iter().filter(|patch| patch["target"] == json!({"kind": kind, "name": "fanfare"}));
    of_kind.map(|patch| serde_yaml::from_str(patch["patch"].as_str().expect("a text")).expect("it is YAML")).collect()
}

/// An object with the patches for its kind, as kustomize applies them.
fn patched(mut object: Value) -> Value {
    for patch in patches(object["kind"].as_str().expect("a kind")) {
        match patch {
            Value::Array(operations) => operations.iter().for_each(|operation| change(&mut object, operation)),
            patch => merge(&mut object, patch),
        }
    }
    object
}

/// One operation of a JSON patch.
fn change(object: &mut Value, operation: &Value) {
    let path = operation["path"].as_str().expect("a path");
    match operation["op"].as_str() {
        Some("add") => {
            let list = path.strip_suffix("/-").and_then(|path| object.pointer_mut(path)).and_then(Value::as_array_mut);
            list.expect("a list to add to").push(operation["value"].clone());
        }
        Some("replace") => *object.pointer_mut(path).expect("something to replace") = operation["value"].clone(),
        other => panic!("{other:?}"),
    }
}

/// A strategic merge patch: of lists, elements with the same name are merged, and others added.
fn merge(object: &mut Value, patch: Value) {
    match (object, patch) {
        (Value::Object(fields), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(fields.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(list), Value::Array(patch)) => {
            for value in patch {
                match list.iter_mut().find(|element| element["name"] == value["name"]) {
                    Some(element) => merge(element, value),
                    None => list.push(value),
                }
            }
        }
        (object, patch) => *object = patch,
    }
}

/// The part of cert-manager's definition of Certificates (v1) that the shipped one uses, with its types and what it requires. Fields that
/// are not in it are refused.
fn definition() -> Value {
    let text = json!({"type": "string"});
    let spec = json!({
        "type": "object",
        "required": ["issuerRef", "secretName"],
        "properties": {
            "secretName": text, "duration": text, "renewBefore": text,
            "dnsNames": {"type": "array", "items": text},
            "issuerRef": {
                "type": "object", "required": ["name"], "properties": {"name": text, "kind": text, "group": text},
            },
            "privateKey": {
                "type": "object",
                "properties": {
                    "algorithm": {"type": "string", "enum": ["RSA", "ECDSA", "Ed25519"]},
                    "rotationPolicy": {"type": "string", "enum": ["Never", "Always"]},
                    "size": {"type": "integer"},
                },
            },
            "usages": {
                "type": "array",
                "items": {"type": "string", "enum": ["digital signature", "key encipherment", "server auth", "client auth"]},
            },
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "certificates.cert-manager.io"},
        "spec": {
            "group": "cert-manager.io",
            "scope": "Namespaced",
            "names": {"kind": "Certificate", "listKind": "CertificateList", "plural": "certificates", "singular": "certificate"},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
            }],
        },
    })
}

#[tokio::test]
async fn the_patched_workload_and_the_certificate_are_accepted() {
    let cluster = cluster::shared().await;
    let namespace = cluster.namespace("certificates").await;
    for object in [SHIPPED.deployment(&namespace), SHIPPED.objects("service.yaml", &namespace).remove(0)] {
        let patched = patched(object);
        cluster.dry_run_yaml(&patched.to_string()).await.unwrap_or_else(|e| panic!("{patched}: {e}"));
    }
    cluster.apply_yaml(&definition().to_string()).await.expect("a valid definition");
    let certificate = COMPONENT.objects("certificate.yaml", &namespace);
    let accepted = async || cluster.dry_run_yaml(&yaml(&certificate)).await.map(|objects| objects.len());
    let accepted = eventually!("the certificate to be accepted", accepted().await, Result::is_ok);
    assert_eq!(accepted.expect("the wait above ensures it"), 1);

    // A mistake would have been refused.
    let mistaken = yaml(&certificate).replace("renewBefore", "renewAfter");
    let refusal = cluster.dry_run_yaml(&mistaken).await.expect_err("there is no such field");
    assert!(refusal.reason.contains("renewAfter"), "{refusal}");
}

#[test]
fn the_service_leads_to_the_port_and_the_certificate_has_its_names() {
    let service = patched(SHIPPED.objects("service.yaml", "default").remove(0));
    let deployment = patched(SHIPPED.deployment("default"));
    let port = &service["spec"]["ports"][0];
    assert_eq!((&port["port"], &port["appProtocol"]), (&443.into(), &"https".into()));
    let ports = container(&deployment)["ports"].as_array().expect("a list");
    assert!(ports.iter().any(|other| other["name"] == port["targetPort"]), "{port}");
    let certificate = &COMPONENT.objects("certificate.yaml", "default")[0]["spec"];
    let volume = &deployment["spec"]["template"]["spec"]["volumes"][0];
    assert_eq!(volume["secret"]["secretName"], certificate["secretName"]);
    assert_eq!(volume["name"], container(&deployment)["volumeMounts"][0]["name"]);
    let name = service["metadata"]["name"].as_str().expect("a name");
    let names = certificate["dnsNames"].as_array().expect("a list");
    for expected in [name.to_owned(), format!("{name}.default.svc")] {
        assert!(names.contains(&expected.clone().into()), "{expected}");
    }
}

#[tokio::test]
async fn the_deployment_serves_tls_with_the_secret_and_uses_a_renewed_one() {
    let deployment = patched(SHIPPED.deployment("default"));
    let container = container(&deployment);
    let mount = container["volumeMounts"][0]["mountPath"].as_str().expect("a path");
    let authority = Authority::new("internal");
    let secret = SecretDir::of(&authority.issue(&["fanfare"]), &authority);
    let folder = secret.path("");
    let folder = folder.to_str().expect("ASCII").trim_end_matches('/');
    let arguments = container["args"].as_array().expect("a list").iter().filter_map(Value::as_str);
    let tls = arguments.filter(|argument| argument.starts_with("--tls")).map(|text| text.replace(mount, folder));
    let origin = Origin::start(Reply::ok("purged"));
    let tls: Vec<String> = tls.collect();
    let flags: Vec<&str> = tls.iter().map(String::as_str).collect();
    let fanfare = Fanfare::broadcast(&[origin.address()], &flags).await;
    fanfare.wait_ready().await;

    let purge = async |authority: &Authority| {
        let client = authority.client(None, &["http/1.1"]);
        let relay = TlsRelay::towards(fanfare.address(), client, "fanfare").await;
        let mut client = RawClient::connect(relay.address).await;
        client.try_send(&request_bytes("fanfare", "PURGE", "/path", &[], b"")).await.ok()?;
        client.try_read_response("PURGE").await.ok().map(|response| response.status)
    };
    assert_eq!(purge(&authority).await, Some(200));
    assert_eq!(origin.requests().len(), 1);
    let renewed = Authority::new("next");
    assert_eq!(purge(&renewed).await, None, "nobody else has signed it");
    secret.renew(&renewed.issue(&["fanfare"]), &renewed);
    eventually!("the renewed certificate to be shown", purge(&renewed).await, |status| *status == Some(200));
}
