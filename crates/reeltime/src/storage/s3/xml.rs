//! Answers that the SDK's strict parser would lose.
//!
//! A file name may contain control characters, and stores repeat the key in their answers.
//! XML 1.0 has no way to write most of them, neither raw nor as a reference, so that a strict
//! parser loses the whole answer, upload id included. Nothing here needs the key from an
//! answer: what XML does not allow is replaced before the answer is parsed.
//!
//! Some stores call the root of an answer `ListPartsResponse`, as its type is called in S3's
//! own description, where S3 sends `ListPartsResult`. It is renamed.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};

/// Lets every answer through with what XML does not allow replaced by `?`.
#[derive(Debug)]
pub(super) struct WellFormed;

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for WellFormed {
    fn name(&self) -> &'static str {
        "WellFormed"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = std::mem::replace(context.response_mut().body_mut(), SdkBody::taken());
        *context.response_mut().body_mut() = SdkBody::from_body_1_x(Cleaned { inner: body, collected: Vec::new() });
        Ok(())
    }
}

/// The whole of a body, which for the requests made here is never large, in one piece.
struct Cleaned {
    inner: SdkBody,
    collected: Vec<u8>,
}

impl Body for Cleaned {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.collected.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if self.collected.is_empty() => return Poll::Ready(None),
                None => {
                    let mut bytes = std::mem::take(&mut self.collected);
                    clean(&mut bytes);
                    rename_root(&mut bytes);
                    return Poll::Ready(Some(Ok(Frame::data(bytes.into()))));
                }
            }
        }
    }
}

/// Replaces the characters, and the references to characters, that XML 1.0 does not allow.
fn clean(text: &mut [u8]) {
    let mut at = 0;
    while at < text.len() {
        let len = match &text[at..] {
            [0x00..0x09 | 0x0b | 0x0c | 0x0e..0x20, ..] => 1,
            [0xef, 0xbf, 0xbe | 0xbf, ..] => 3,
            [b'&', b'#', rest @ ..] => forbidden_reference(rest).map_or(0, |len| len + 2),
            _ => 0,
        };
        text[at..at + len].fill(b'?');
        at += len.max(1);
    }
}

/// Gives a root element `…Response` the name `…Result`.
fn rename_root(text: &mut Vec<u8>) {
    const GIVEN: &[u8] = b"Response";
    const WANTED: &[u8] = b"Result";
    let start = text.windows(2).position(|pair| pair[0] == b'<' && pair[1].is_ascii_alphabetic());
    let Some(name_begin) = start.map(|at| at + 1) else { return };
    let name_len = text[name_begin..].iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or_default();
    let name = &text[name_begin..name_begin + name_len];
    if !name.ends_with(GIVEN) {
        return;
    }
    let closing = [b"</", name].concat();
    let closing_begin = text.windows(closing.len()).rposition(|window| window == closing);
    for end in [closing_begin.map(|at| at + closing.len()), Some(name_begin + name_len)].into_iter().flatten() {
        text.splice(end - GIVEN.len()..end, WANTED.iter().copied());
    }
}

/// The length of what follows `&#`, semicolon included, if it refers to a forbidden character.
fn forbidden_reference(rest: &[u8]) -> Option<usize> {
    let end = rest.iter().take(10).position(|byte| *byte == b';')?;
    let digits = std::str::from_utf8(&rest[..end]).ok()?;
    let number = match digits.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    let allowed = matches!(number, Ok(0x9 | 0xa | 0xd | 0x20..0xd800 | 0xe000..0xfffe | 0x1_0000..0x11_0000));
    (!allowed).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_called_as_s3_calls_it() {
        for (before, after) in [
            (
                "<?xml version=\"1.0\"?>\n<!-- x --><AResponse xmlns=\"u\"><Key>AResponse</Key></AResponse>",
                "<?xml version=\"1.0\"?>\n<!-- x --><AResult xmlns=\"u\"><Key>AResponse</Key></AResult>",
            ),
            ("<AResponse/>", "<AResult/>"),
            ("<AResult></AResult>", "<AResult></AResult>"),
            ("<Error><Code>x</Code></Error>", "<Error><Code>x</Code></Error>"),
            ("<html", "<html"),
            ("", ""),
            ("no xml", "no xml"),
        ] {
            let mut bytes = before.as_bytes().to_vec();
            rename_root(&mut bytes);
            assert_eq!(String::from_utf8_lossy(&bytes), after);
        }
    }

    #[test]
    fn what_xml_forbids_is_replaced_and_the_rest_is_left() {
        for (before, after) in [
            ("<Key>a\u{1}b\nc\td\r</Key>", "<Key>a?b\nc\td\r</Key>"),
            ("a&#x1;b&#10;c&#xA;d&#31;e&amp;", "a?????b&#10;c&#xA;d?????e&amp;"),
            ("\u{fffe}\u{ffff}\u{fffd}ü\u{1f600}", "??????\u{fffd}ü\u{1f600}"),
            ("&#x1", "&#x1"),
            ("&#", "&#"),
            ("&#zz;", "?????"),
        ] {
            let mut bytes = before.as_bytes().to_vec();
            clean(&mut bytes);
            assert_eq!(String::from_utf8_lossy(&bytes), after);
        }
    }
}
