use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};

use super::{Media, media};

fn check(part: &Value, model: &str, tokens: u64, least_bytes: usize) {
    let body = json!({"messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is this?"}, part]}]});
    let found = media(body.to_string().as_bytes(), model, Some(128_000));
    assert_eq!(found.tokens, tokens);
    let size = usize::try_from(found.bytes).expect("small");
    assert!(size >= least_bytes, "{size}");
}

/// A PNG of this size, with junk behind its header.
fn png(width: u32, height: u32, bytes: usize) -> String {
    let mut image = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    image.extend_from_slice(&width.to_be_bytes());
    image.extend_from_slice(&height.to_be_bytes());
    image.resize(bytes, 7);
    format!("data:image/png;base64,{}", STANDARD.encode(image))
}

fn pdf(text: &str, bytes: usize) -> String {
    let mut file = text.as_bytes().to_vec();
    file.resize(bytes, b' ');
    format!("data:application/pdf;base64,{}", STANDARD.encode(file))
}

#[test]
fn a_photo_counts_by_its_sides_and_not_by_its_bytes() {
    let photo = png(4000, 3000, 4 << 20);
    let part = json!({"type": "image_url", "image_url": {"url": photo}});
    check(&part, "gpt-4o", 765, 4 << 20);
    let part = json!({"type": "image_url", "image_url": {"url": photo, "detail": "low"}});
    check(&part, "gpt-4o", 85, 4 << 20);
    let part = json!({"type": "input_image", "image_url": photo, "detail": "low"});
    check(&part, "gpt-4o", 85, 4 << 20);
}

#[test]
fn what_cannot_be_read_is_the_largest_of_its_kind() {
    for url in [
        "https://example.com/a.png",
        "data:image/png;base64,AAAA",
        "",
    ] {
        let part = json!({"type": "image_url", "image_url": {"url": url}});
        check(&part, "gpt-4o", 85 + 170 * 8, url.len());
    }
    check(
        &json!({"type": "input_image", "file_id": "f"}),
        "gpt-4o",
        1_445,
        0,
    );
    check(&json!({"type": "input_audio"}), "gpt-4o", 62_500, 0);
    // A hundred pages are more than the window.
    let file = json!({"type": "file", "file": {"file_id": "f"}});
    check(&file, "gpt-4o", 128_000, 0);
    let unreadable = json!({"type": "file", "file": {"file_data": pdf("%PDF-1.7 ", 500_000)}});
    check(&unreadable, "gpt-4o", 128_000, 500_000);
    let small = json!({"type": "file", "file": {"file_data": pdf("%PDF-1.7 ", 2_000)}});
    check(&small, "gpt-4o", 2_445, 2_000);
}

#[test]
fn a_document_counts_by_its_pages() {
    let text = "%PDF-1.4\n1 0 obj <</Type /Pages /Kids [3 0 R] /Count 12>> endobj";
    let part = json!({"type": "file", "file": {"file_data": pdf(text, 500_000)}});
    check(&part, "gpt-4o", 12 * (1_445 + 1_000), 500_000);
    // The tree stands at the end of a large one.
    let end = format!("%PDF-1.4{}{text}", " ".repeat(1_500_000));
    let part = json!({"type": "input_file", "file_data": pdf(&end, end.len())});
    check(&part, "gpt-4o", 12 * (1_445 + 1_000), 1_500_000);
}

#[test]
fn a_packed_page_tree_is_unpacked() {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed
        .write_all(b"3 0 4 60 <</Type/Pages/Kids[5 0 R]/Count 7>> <</Type/Catalog>>")
        .expect("a vector takes it");
    let mut file =
        b"%PDF-1.7\n2 0 obj <</Type/ObjStm/N 2/Filter/FlateDecode>>\nstream\r\n".to_vec();
    file.extend_from_slice(&packed.finish().expect("it is packed"));
    file.resize(500_000, b' ');
    let data = format!("data:application/pdf;base64,{}", STANDARD.encode(file));
    let part = json!({"type": "file", "file": {"file_data": data}});
    check(&part, "gpt-4o", 7 * (1_445 + 1_000), 500_000);
}

#[test]
fn sound_counts_by_its_length() {
    let part = json!({"type": "input_audio", "input_audio": {"data": "A".repeat(53_300), "format": "mp3"}});
    check(&part, "gpt-4o", 101, 53_300);
}

#[test]
fn a_part_is_found_wherever_it_stands_and_however_it_is_written() {
    let image = r#"{"image_url":{"url":"https://e/x"},"t\u0079pe":"image\u005furl"}"#;
    for body in [
        format!("[{image}]"),
        format!(r#"{{"input":[{{"content":[{image},{image}]}}],"x":{{"y":[[{image}]]}}}}"#),
    ] {
        let found = media(body.as_bytes(), "gpt-4o", None);
        let images = u64::try_from(body.matches("https").count()).expect("few");
        assert_eq!(found.tokens, images * 1_445, "{body}");
    }
    for body in ["", "{", "7", r#"{"type":"text","text":"image_url"}"#] {
        assert_eq!(media(body.as_bytes(), "gpt-4o", None), Media::default());
    }
}

#[test]
fn images_and_documents_of_messages_count_as_such() {
    let image = png(1000, 750, 1 << 20);
    let (_, base64) = image.split_once(',').expect("a data URL");
    let source = json!({"type": "base64", "media_type": "image/png", "data": base64});
    let part = json!({"type": "image", "source": source});
    // 32 by 24 squares of 32 pixels: width times height by 750, rounded up.
    check(&part, "claude-sonnet-5", 1_053, 1 << 20);
    let part = json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a"}});
    check(&part, "claude-sonnet-5", 4_019, 0);
    let document = pdf("%PDF-1.7 << /Type /Pages /Count 2 >>", 9 << 10);
    let (_, base64) = document.split_once(',').expect("a data URL");
    let source = json!({"type": "base64", "media_type": "application/pdf", "data": base64});
    let part = json!({"type": "document", "source": source});
    check(&part, "claude-sonnet-5", 2 * (4_019 + 1_000), 9 << 10);
    // Its text is text.
    let source = json!({"type": "text", "media_type": "text/plain", "data": "x".repeat(5_000)});
    let part = json!({"type": "document", "source": source});
    check(&part, "claude-sonnet-5", 0, 0);
}
