use proptest::prelude::*;

use super::{body, boundary};
use crate::body::{Body, Malformed, Member, Members};

const MEMBERS: &Members = &[("model", Member::Model), ("stream", Member::Stream)];

fn form(parts: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (disposition, value) in parts {
        text.push_str(&format!(
            "--b1\r\nContent-Disposition: {disposition}\r\n\r\n{value}\r\n"
        ));
    }
    text + "--b1--\r\n"
}

fn scan(text: &str) -> Result<Body, Malformed> {
    body(text.as_bytes(), "b1", MEMBERS, false)
}

#[test]
fn finds_the_model_beside_a_file() {
    let text = form(&[
        (
            "form-data; name=\"file\"; filename=\"a;b=\\\"c\\\".mp3\"",
            "\r\n--b0\r\nsound",
        ),
        ("form-data; name=\"model\"", "whisper-1"),
        ("form-data; name=stream", "true"),
    ]);
    let found = scan(&text).expect("a form");
    assert_eq!(found.model.as_deref(), Some("whisper-1"));
    assert_eq!(&text[found.model_at.expect("a model")], "whisper-1");
    assert!(found.stream);
}

#[test]
fn refuses_what_servers_read_differently() {
    let good = form(&[("form-data; name=\"model\"", "m")]);
    assert!(scan(&good).is_ok());
    for bad in [
        String::new(),
        "--b1".to_owned(),
        format!("preamble\r\n{good}"),
        format!("{good}more"),
        good.replace("--b1--", "--b1"),
        good.replace("form-data; ", ""),
        good.replace("name=", "title="),
        good.replace("\"model\"", "\"model"),
        form(&[("form-data; name=\"model\"; name=\"other\"", "m")]),
        form(&[
            ("form-data; name=\"model\"", "m"),
            ("form-data; name=\"model\"", "n"),
        ]),
        form(&[("form-data; name=\"mo\\del\"", "m")]),
        form(&[("form-data; name=\"a\"; name*=utf-8''model", "m")]),
        form(&[(
            "form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64",
            "bQ==",
        )]),
        form(&[("form-data; name=\"model\"", "")]),
        form(&[("form-data; name=\"stream\"", "maybe")]),
        form(&[("form-data; name=\"x\"", "y"); 65]),
    ] {
        assert!(scan(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn reads_the_boundary_of_a_form_only() {
    let read = |text| boundary(text).ok();
    assert_eq!(read("multipart/form-data; boundary=b1"), Some("b1"));
    let quoted = "Multipart/Form-Data; charset=utf-8; Boundary=\"--a'b\"";
    assert_eq!(read(quoted), Some("--a'b"));
    for bad in [
        "application/json; boundary=b1",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a\u{e9}",
    ] {
        assert_eq!(read(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(body(&bytes, "b1", MEMBERS, false));
    }

    #[test]
    fn a_model_is_read_back(model in "[^\\pC]{1,30}", before in "[^\\r]{0,40}") {
        let text = form(&[
            ("form-data; name=\"file\"; filename=\"f\"", &before),
            ("form-data; name=\"model\"", &model),
        ]);
        let found = scan(&text).expect("a form").model.expect("a model");
        prop_assert_eq!(&*found, model.as_str());
    }
}
