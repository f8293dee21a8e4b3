//! Both forms, what is in them that we do not know, and what cannot be read.

use kube::core::ApiResource;

use super::*;

fn lease(spec: Value) -> DynamicObject {
    let resource = ApiResource::erase::<k8s_openapi::api::coordination::v1::Lease>(&());
    DynamicObject::new("lock", &resource).data(json!({ "spec": spec }))
}

fn config_map(text: &str) -> DynamicObject {
    let resource = ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
    let mut object = DynamicObject::new("lock", &resource).data(json!({"data": {"kept": "yes"}}));
    object.metadata.annotations = Some([(ANNOTATION.to_owned(), text.to_owned())].into());
    object
}

fn record() -> Record {
    Record {
        holder: "baz".into(),
        lease_seconds: 15,
        acquired: "2026-01-02T03:04:05.678901Z".parse().ok(),
        renewed: "2026-01-02T03:04:06.999999999Z".parse().ok(),
        transitions: 7,
        writer: Some("p1-1".into()),
    }
}

#[test]
fn a_lease_has_microseconds_and_keeps_unknown_fields() {
    let mut object = lease(json!({"holderIdentity": "bing", "strategy": "S", "preferredHolder": "bing"}));
    Form::Spec.write(&mut object, &record());
    assert_eq!(
        object.data["spec"],
        json!({
            "holderIdentity": "baz", "leaseDurationSeconds": 15, "leaseTransitions": 7,
            "acquireTime": "2026-01-02T03:04:05.678901Z", "renewTime": "2026-01-02T03:04:06.999999Z",
            "strategy": "S", "preferredHolder": "bing",
        })
    );
    let (read, _) = Form::Spec.read(&object).expect("it was just written");
    assert!(Form::Spec.is(&record(), &read) && read.writer.is_none());
}

#[test]
fn an_annotation_has_seconds_and_keeps_unknown_fields() {
    let mut object = config_map(r#"{"holderIdentity":"bing","strategy":"S","preferredHolder":"bing","new":[1]}"#);
    Form::Annotation.write(&mut object, &record());
    let text = annotation(&object).expect("it was written");
    let written: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(
        written,
        json!({
            "holderIdentity": "baz", "leaseDurationSeconds": 15, "leaderTransitions": 7, "writer": "p1-1",
            "acquireTime": "2026-01-02T03:04:05Z", "renewTime": "2026-01-02T03:04:06Z",
            "strategy": "S", "preferredHolder": "bing", "new": [1],
        })
    );
    assert_eq!(object.data["data"]["kept"], "yes");
    let (read, raw) = Form::Annotation.read(&object).expect("it was just written");
    assert!(Form::Annotation.is(&record(), &read));
    assert_eq!(Some(raw.as_str()), annotation(&object));
}

#[test]
fn records_of_old_and_new_clients_are_read() {
    let old = r#"{"holderIdentity":"a","leaseDurationSeconds":15,"acquireTime":"2021-05-02T18:28:51Z","renewTime":null,"leaderTransitions":3}"#;
    let (read, _) = Form::Annotation.read(&config_map(old)).expect("it can be read");
    assert_eq!((read.holder.as_str(), read.lease_seconds, read.transitions), ("a", 15, 3));
    assert_eq!((read.acquired.map(|time| time.as_second()), read.renewed), (Some(1_619_980_131), None));

    // Times with an offset, and whatever is absent.
    let (read, _) =
        Form::Spec.read(&lease(json!({"renewTime": "2021-05-02T20:28:51.5+02:00"}))).expect("it can be read");
    assert_eq!((read.renewed.map(|time| time.as_millisecond()), read.holder.as_str()), (Some(1_619_980_131_500), ""));
    for nothing in [lease(Value::Null), lease(json!({}))] {
        assert_eq!(Form::Spec.read(&nothing).expect("it can be read").0, Record::default());
    }
    assert_eq!(Form::Annotation.read(&config_map("")).expect("no record"), (Record::default(), String::new()));
}

#[test]
fn faults_of_a_record_are_named_and_never_panic() {
    for (text, field) in [
        ("{", ANNOTATION),
        ("[]", ANNOTATION),
        (r#"{"holderIdentity":7}"#, "holderIdentity"),
        (r#"{"leaseDurationSeconds":"15"}"#, "leaseDurationSeconds"),
        (r#"{"leaseDurationSeconds":1e99}"#, "leaseDurationSeconds"),
        (r#"{"leaderTransitions":18446744073709551615}"#, "leaderTransitions"),
        // `int32` in a Lease.
        (r#"{"leaderTransitions":2147483647}"#, "leaderTransitions"),
        (r#"{"renewTime":"yesterday"}"#, "renewTime"),
        (r#"{"acquireTime":"+99999-01-01T00:00:00Z"}"#, "acquireTime"),
    ] {
        let malformed = Form::Annotation.read(&config_map(text)).expect_err(text);
        assert_eq!(malformed.field, field, "{malformed}");
    }
    assert!(Form::Spec.read(&lease(json!("text"))).is_err());
    let (read, _) = Form::Annotation.read(&config_map(r#"{"leaderTransitions":-1}"#)).expect("it can be read");
    assert_eq!(read.transitions, 0);
}

#[test]
fn a_process_recognises_only_the_records_that_it_wrote_itself() {
    let changed = [
        Record { holder: "bing".into(), ..record() },
        Record { lease_seconds: 16, ..record() },
        Record { transitions: 8, ..record() },
        Record { acquired: None, ..record() },
        Record { renewed: "2026-01-02T03:04:07Z".parse().ok(), ..record() },
    ];
    for form in [Form::Spec, Form::Annotation] {
        assert!(form.is(&record(), &record()));
        for other in &changed {
            assert!(!form.is(&record(), other), "{other:?}");
        }
    }
    let by_client_go = Record { writer: None, ..record() };
    assert!(!Form::Annotation.is(&record(), &by_client_go) && !Form::Annotation.is(&by_client_go, &by_client_go));
    assert!(!Form::Annotation.is(&record(), &Record { writer: Some("p2-1".into()), ..record() }));
    let a_microsecond_later = Record { renewed: "2026-01-02T03:04:07.000000Z".parse().ok(), ..record() };
    assert!(!Form::Spec.is(&record(), &a_microsecond_later));
}
