//! Multipart uploads, without faults: what becomes of the parts, and which of them R2 refuses.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use crate::client::refusal;
use crate::conformance::{KEY, bucket, patterned};
use crate::r2sim::{MIN_PART, Operation};

#[tokio::test]
async fn a_multipart_upload_becomes_one_object_when_completed() {
    let (sim, s3) = bucket();
    let whole = patterned(2 * MIN_PART as usize + 1000);
    let parts: Vec<&[u8]> = whole.chunks(MIN_PART as usize).collect();
    let upload = begin(&s3).await;
    let done = send_parts(&s3, &upload, &parts).await;
    assert_eq!(sim.object(KEY), None);
    let listed = s3.list_parts().bucket("nix").key(KEY).upload_id(&upload);
    assert_eq!(listed.send().await.expect("list").parts().len(), 3);

    let completed = complete(&s3, &upload, done).await.expect("complete");
    assert!(completed.e_tag().expect("etag").ends_with("-3\""));
    assert_eq!(sim.object(KEY), Some(whole));
    assert_eq!(sim.open_multipart_uploads(), []);
    assert_eq!(sim.log().requests_of(Operation::UploadPart), 3);
}

/// It lies in several files and is one object all the same.
#[tokio::test]
async fn a_range_may_begin_in_one_part_and_end_in_another() {
    let (_sim, s3) = bucket();
    let part = MIN_PART as usize;
    let whole = patterned(2 * part + 1000);
    let parts: Vec<&[u8]> = whole.chunks(part).collect();
    let upload = begin(&s3).await;
    let done = send_parts(&s3, &upload, &parts).await;
    complete(&s3, &upload, done).await.expect("complete");
    for (first, last) in [
        (0, 0),
        (part - 1, part),
        (part, 2 * part - 1),
        (part - 7, 2 * part + 7),
        (2 * part, 2 * part + 999),
    ] {
        let get = s3.get_object().bucket("nix").key(KEY);
        let got = get.range(format!("bytes={first}-{last}")).send().await;
        let bytes = got.expect("get").body.collect().await.expect("body");
        assert!(bytes.into_bytes() == whole[first..=last], "{first}-{last}");
    }
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    let (sim, s3) = bucket();
    let upload = begin(&s3).await;
    let done = send_parts(&s3, &upload, &[b"part"]).await;
    let open = s3.list_multipart_uploads().bucket("nix").send().await;
    assert_eq!(open.expect("list").uploads().len(), 1);
    let abort = s3.abort_multipart_upload().bucket("nix").key(KEY);
    abort.upload_id(&upload).send().await.expect("abort");
    assert_eq!(sim.open_multipart_uploads(), []);
    let error = complete(&s3, &upload, done).await.expect_err("gone");
    assert_eq!(refusal(&error), (404, "NoSuchUpload".to_owned()));
    assert_eq!(sim.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn parts_must_be_equal_big_enough_and_as_they_were_sent() {
    let (sim, s3) = bucket();
    let big = patterned(MIN_PART as usize + 1);
    let least = &big[..MIN_PART as usize];
    for (parts, code) in [
        (vec![&big[..], least, b"end"], "InvalidPart"),
        (vec![least, &big[..]], "InvalidPart"),
        (vec![b"small", b"end"], "EntityTooSmall"),
    ] {
        let upload = begin(&s3).await;
        let done = send_parts(&s3, &upload, &parts).await;
        let error = complete(&s3, &upload, done).await.expect_err(code);
        assert_eq!(refusal(&error), (400, code.to_owned()));
    }
    let upload = begin(&s3).await;
    send_parts(&s3, &upload, &[b"part"]).await;
    let forged = CompletedPart::builder()
        .part_number(1)
        .e_tag("\"00\"")
        .build();
    let error = complete(&s3, &upload, vec![forged])
        .await
        .expect_err("etag");
    assert_eq!(refusal(&error), (400, "InvalidPart".to_owned()));
    assert_eq!(sim.keys(), Vec::<String>::new());
}

async fn begin(s3: &Client) -> String {
    let create = s3.create_multipart_upload().bucket("nix").key(KEY);
    let created = create.send().await.expect("create");
    created.upload_id().expect("an id").to_owned()
}

async fn send_parts(s3: &Client, upload: &str, parts: &[&[u8]]) -> Vec<CompletedPart> {
    let mut done = Vec::new();
    for (number, part) in (1..).zip(parts) {
        let send = s3.upload_part().bucket("nix").key(KEY).upload_id(upload);
        let body = ByteStream::from(part.to_vec());
        let sent = send.part_number(number).body(body).send().await;
        let etag = sent.expect("part").e_tag().expect("etag").to_owned();
        done.push(
            CompletedPart::builder()
                .part_number(number)
                .e_tag(etag)
                .build(),
        );
    }
    done
}

async fn complete(
    s3: &Client,
    upload: &str,
    parts: Vec<CompletedPart>,
) -> Result<
    aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadOutput,
    aws_sdk_s3::error::SdkError<
        aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadError,
    >,
> {
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(parts))
        .build();
    let complete = s3.complete_multipart_upload().bucket("nix").key(KEY);
    complete
        .upload_id(upload)
        .multipart_upload(parts)
        .send()
        .await
}
