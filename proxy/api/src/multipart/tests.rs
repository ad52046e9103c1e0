use proptest::prelude::*;

use super::{FormScan, body, boundary};
use crate::body::{Body, Files, Malformed, Member, Members};
use crate::end_user::UserMember;

const MEMBERS: &Members = &[("model", Member::Model), ("stream", Member::Stream)];
const EDITS: &Members = &[
    ("model", Member::Model),
    ("n", Member::Choices),
    ("quality", Member::Quality),
    ("user", Member::User(UserMember::User)),
];

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
        form(&[("form-data; name=\"Model\"", "m")]),
        form(&[("form-data; name=\"model\"; filename=\"m\"", "m")]),
        form(&[("form-data; name=\"model\"", &"m".repeat(70_000))]),
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

#[test]
fn files_are_counted_and_what_decides_an_images_cost_is_read() {
    let text = form(&[
        ("form-data; name=\"image[]\"; filename=\"a.png\"", "12345"),
        ("form-data; name=\"image[]\"; filename=\"b.png\"", "123"),
        ("form-data; name=\"prompt\"", "a pot"),
        ("form-data; name=\"model\"", "gpt-image-2"),
        ("form-data; name=\"n\"", "3"),
        ("form-data; name=\"quality\"", "medium"),
        ("form-data; name=\"user\"", "ann"),
    ]);
    let found = body(text.as_bytes(), "b1", EDITS, false).expect("a form");
    assert_eq!(
        found.files,
        Files {
            count: 2,
            bytes: 8,
            text: 5
        }
    );
    assert_eq!((found.choices, found.image_tokens), (3, Some(1_884)));
    assert_eq!(&text[found.users.user.expect("a user")], "ann");
    let without = form(&[("form-data; name=\"model\"", "gpt-image-2")]);
    let found = body(without.as_bytes(), "b1", EDITS, true).expect("a form");
    assert_eq!((found.model, found.image_tokens), (None, Some(6_540)));
}

#[test]
fn a_line_of_a_head_that_ends_for_some_only_is_refused() {
    for end in ["\n", "\r"] {
        let disposition = format!("form-data; name=\"prompt\"{end}X: form-data; name=\"model\"");
        let form = form(&[
            ("form-data; name=\"model\"", "gpt-image-2"),
            (&disposition, "x"),
        ]);
        let refused = body(form.as_bytes(), "b1", EDITS, false).unwrap_err();
        assert!(refused.0.contains("CR LF"), "{}", refused.0);
    }
}

#[test]
fn a_form_that_is_sealed_takes_files_and_no_more_fields_that_decide() {
    let scan = |rest: &[(&str, &str)]| {
        let begin = form(&[
            ("form-data; name=\"model\"", "gpt-image-2"),
            ("form-data; name=\"image\"; filename=\"a.png\"", "12345"),
        ]);
        let whole = begin.strip_suffix("--b1--\r\n").expect("an end").to_owned() + &form(rest);
        let mut scan = FormScan::new("b1", EDITS, false);
        let (first, rest) = whole.split_once("2345").expect("a file");
        scan.push(first.as_bytes())?;
        assert!(scan.has_file() && scan.has_model());
        let found = scan.seal(9_000);
        assert_eq!(
            found.files,
            Files {
                count: 16,
                bytes: 9_000,
                text: 0
            }
        );
        assert_eq!(
            (found.model.as_deref(), found.image_tokens),
            (Some("gpt-image-2"), Some(6_540))
        );
        scan.push(rest.as_bytes())?;
        scan.finish()
    };
    let more = [
        ("form-data; name=\"mask\"; filename=\"m.png\"", "12"),
        ("form-data; name=\"size\"", "auto"),
    ];
    assert!(scan(&more).is_ok());
    for late in ["model", "n", "quality", "user"] {
        let refused = scan(&[(&format!("form-data; name=\"{late}\""), "1")]);
        assert!(refused.is_err_and(|why| why.0.contains(late)), "{late}");
    }
}

proptest! {
    #[test]
    fn pieces_are_read_as_the_whole(
        parts in proptest::collection::vec((0..7_usize, "[ab\r\n-]{0,12}"), 0..6),
        sizes in proptest::collection::vec(1..9_usize, 1..20),
        cut in 0..3_usize,
    ) {
        let heads = [
            "form-data; name=\"file\"; filename=\"f\"",
            "form-data; name=\"model\"",
            "form-data; name=\"stream\"",
            "form-data; name=\"other\"",
            "form-data; name=\"image\"; filename=\"--b1\"",
            "form-data",
            "form-data; name=\"MODEL\"",
        ];
        let parts: Vec<_> = parts.iter().map(|(at, value)| (heads[*at], value.as_str())).collect();
        let text = form(&parts);
        let text = &text.as_bytes()[..text.len() - cut];
        let whole = body(text, "b1", MEMBERS, false);
        let mut scan = FormScan::new("b1", MEMBERS, false);
        let mut rest = text;
        let mut sizes = sizes.iter().cycle();
        let mut pushed = Ok(());
        while pushed.is_ok() && !rest.is_empty() {
            let size = (*sizes.next().expect("a cycle")).min(rest.len());
            pushed = scan.push(&rest[..size]);
            rest = &rest[size..];
        }
        prop_assert_eq!(pushed.and_then(|()| scan.finish()), whole);
    }

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

#[test]
fn a_list_in_place_of_a_member_is_refused_by_name() {
    for (name, expect) in [
        ("model[]", "write \"model\" instead of \"model[]\""),
        ("stream[0]", "write \"stream\" instead of \"stream[0]\""),
        ("Model[]", "write \"model\" instead of \"Model\""),
    ] {
        let text = form(&[(&format!("form-data; name=\"{name}\""), "x")]);
        assert_eq!(scan(&text).expect_err(name).0, expect);
    }
    let lists = form(&[
        ("form-data; name=\"model\"", "m"),
        ("form-data; name=\"image[]\"; filename=\"a\"", "x"),
        ("form-data; name=\"timestamp_granularities[]\"", "word"),
    ]);
    assert_eq!(scan(&lists).expect("a form").files.count, 1);
}

#[test]
fn a_part_may_name_its_charset() {
    let text = "--b1\r\nContent-Disposition: form-data; name=\"model\"\r\nContent-Type: text/plain; \
                charset=utf-8\r\n\r\nwhisper-1\r\n--b1--\r\n";
    assert_eq!(
        scan(text).expect("a form").model.as_deref(),
        Some("whisper-1")
    );
    let kind = "multipart/form-data; charset=utf-8; boundary=b1";
    assert_eq!(boundary(kind), Ok("b1"));
}

#[test]
fn a_form_names_nothing_that_a_backend_keeps() {
    for name in [
        "file_id",
        "file_ids[]",
        "File_ID",
        "images[0][file_id]",
        "images[].file_id",
        "container",
        "vector_store_ids[0]",
    ] {
        for file in ["", "; filename=\"x\""] {
            let text = format!(
                "--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\nfile-1\r\n--b--\r\n"
            );
            let refused = body(text.as_bytes(), "b", &[], false).expect_err(name);
            assert!(refused.0.ends_with("send ids as JSON"), "{}", refused.0);
        }
    }
    let text = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"file_id\"\r\n\r\nx\r\n--b--\r\n";
    assert!(body(text.as_bytes(), "b", &[], false).is_ok());
}
