//! AWS Signature Version 4 for the testkit's S3 client, header form, unsigned payload.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::digest::{hex, sha256_of_bytes};

/// What a client proves its identity with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
    /// The region that requests are signed for.
    pub region: String,
}

impl Default for Credentials {
    /// For servers that take any.
    fn default() -> Self {
        Self { access_key_id: "testkit".into(), secret_access_key: "testkit-secret".into(), region: "us-east-1".into() }
    }
}

/// A request as far as it is signed.
#[derive(Debug)]
pub struct ToSign<'a> {
    /// The method.
    pub method: &'a str,
    /// Host and port as in the `host` header.
    pub host: &'a str,
    /// The path, encoded.
    pub path: &'a str,
    /// The query, names and values not encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// Further headers, names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
}

/// All headers that the request has to bear, `host` among them.
pub fn sign(request: &ToSign, credentials: &Credentials, now: SystemTime) -> Vec<(String, String)> {
    let stamp = timestamp(now);
    let day = &stamp[..8];
    let mut headers: Vec<(String, String)> =
        request.headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    headers.push(("host".into(), request.host.to_owned()));
    headers.push(("x-amz-content-sha256".into(), "UNSIGNED-PAYLOAD".into()));
    headers.push(("x-amz-date".into(), stamp.clone()));
    headers.sort();

    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let query = encode_query(request.query);
    let canonical = format!("{}\n{}\n{query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD", request.method, request.path);
    let scope = format!("{day}/{}/s3/aws4_request", credentials.region);
    let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", sha256_of_bytes(canonical.as_bytes()));

    let secret = format!("AWS4{}", credentials.secret_access_key);
    let key = [day, &credentials.region, "s3", "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, step| hmac(&key, step.as_bytes()));
    let signature = hex(&hmac(&key, to_sign.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.access_key_id
    );
    headers.push(("authorization".into(), authorization));
    headers
}

/// A query with encoded names and values, sorted as the signature wants it.
pub fn encode_query(query: &[(&str, &str)]) -> String {
    let mut pairs: Vec<_> = query.iter().map(|(name, value)| (encode(name, false), encode(value, false))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encodes all but what RFC 3986 calls unreserved, and `/` if wanted.
pub fn encode(text: &str, keep_slash: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte as char),
            b'/' if keep_slash => encoded.push('/'),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

/// `20260131T235959Z`.
fn timestamp(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// The date in the Gregorian calendar, counted in days since 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101T000000Z");
        assert_eq!(at(951_782_400), "20000229T000000Z");
        assert_eq!(at(1_798_761_599), "20261231T235959Z");
    }

    #[test]
    fn only_unreserved_bytes_stay_as_they_are() {
        assert_eq!(encode("a b/ü%+'\"\n~", true), "a%20b/%C3%BC%25%2B%27%22%0A~");
        assert_eq!(encode("a/b", false), "a%2Fb");
    }
}
