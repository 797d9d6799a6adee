//! What a failed request means: one table from the store's answers to [`Trouble`].
//!
//! What is not in the table is judged by its HTTP status. An unknown refusal counts as
//! [`Trouble::Denied`]: it is tried again slowly and an operator sees it. Only what can never
//! work is [`Trouble::Refused`], because that gives a recording up.

use std::error::Error;
use std::fmt::Write;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use reeltime_core::Trouble;

use crate::storage::{StoreError, source_trouble};

/// A request that failed, before it is known by name and target.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// What it means for the stream.
    pub(super) trouble: Trouble,
    /// The cause in words.
    pub(super) cause: String,
    /// What to do about it.
    pub(super) hint: String,
    /// The HTTP status, if there was an answer.
    pub(super) status: Option<u16>,
    /// The store's error code, if there was an answer with one.
    pub(super) code: String,
}

/// No connection could be made for want of a file.
const OPEN_FILES: &str = "the store is not to blame: raise the limit on open files (LimitNOFILE= in the unit, ulimit -Hn); \
    it is tried again, and nothing is lost";

impl Failure {
    /// What a failed SDK call means.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let Some(response) = error.raw_response() else {
            return Self::without_answer(error);
        };
        let status = response.status().as_u16();
        let (code, message) = match error {
            SdkError::ServiceError(service) => (service.err().code(), service.err().message()),
            _ => (None, None),
        };
        let code = code.filter(|code| !HEAD_CODES.contains(code)).unwrap_or_default();
        let (trouble, hint) = meaning(status, code);

        let mut cause = String::new();
        if !code.is_empty() {
            let _ = write!(cause, "{code}: ");
        }
        match message {
            Some(message) => cause.push_str(message.trim()),
            None if (200..300).contains(&status) || matches!(error, SdkError::ResponseError(_)) => {
                let _ = write!(cause, "unreadable answer: {}", chain(error));
            }
            None if code.is_empty() => cause.push_str("refused without an explanation"),
            None => cause.push_str("refused"),
        }
        let _ = write!(cause, " (HTTP {status}");
        if let Some(id) = error.request_id() {
            let _ = write!(cause, ", request id {id}");
        }
        cause.push(')');

        let mut hint = hint.to_owned();
        // Some stores tell their region with every answer.
        let of_request = trouble == Trouble::Denied;
        if let (301 | 307 | 400, Some(region), true) =
            (status, response.headers().get("x-amz-bucket-region"), of_request)
        {
            hint = format!("the bucket is in another region: --s3-region {region}");
        }
        Self { trouble, cause, hint, status: Some(status), code: code.to_owned() }
    }

    fn without_answer(error: &(dyn Error + 'static)) -> Self {
        if let Some(error) = find::<CredentialsError>(error) {
            return Self::of_credentials(error);
        }
        let failure = Self::outage(chain(error));
        if lacks_open_files(error) {
            return Self { hint: OPEN_FILES.to_owned(), ..failure };
        }
        failure
    }

    fn of_credentials(error: &CredentialsError) -> Self {
        let cause = format!("no credentials: {}", chain(error));
        // A machine whose metadata service refuses has no role: waiting does not give it one.
        let no_role = cause.contains("IMDS is disabled");
        match error {
            CredentialsError::ProviderError(_) if no_role => {
                Self { hint: NO_CREDENTIALS.to_owned(), ..Self::new(Trouble::Denied, cause) }
            }
            // Asked for, but not answered: the role's or the login's server is away.
            CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_) => Self {
                hint: "the source of the credentials (role, SSO, metadata service, process) does not answer".to_owned(),
                ..Self::outage(cause)
            },
            _ => Self { hint: NO_CREDENTIALS.to_owned(), ..Self::new(Trouble::Denied, cause) },
        }
    }

    /// A failure of this kind, for this cause.
    pub(super) fn new(trouble: Trouble, cause: impl Into<String>) -> Self {
        Self { trouble, cause: cause.into(), hint: String::new(), status: None, code: String::new() }
    }

    /// No answer.
    pub(super) fn outage(cause: impl Into<String>) -> Self {
        Self {
            hint: "check that the store is up and can be reached from here; it is tried again, and nothing is lost"
                .to_owned(),
            ..Self::new(Trouble::Outage, cause)
        }
    }

    /// The recording could not be read.
    pub(super) fn source(error: &io::Error) -> Self {
        let (trouble, cause, hint) = source_trouble(error);
        Self { hint: hint.to_owned(), ..Self::new(trouble, cause) }
    }

    /// Whether the store may have refused the checksum rather than the request: another try
    /// without checksums tells.
    pub(super) fn may_be_about_checksums(&self) -> bool {
        let refused = matches!(self.status, Some(400 | 405 | 501));
        let mismatch = self.trouble == Trouble::InvalidPart;
        let speaks_of_it = self.cause.to_ascii_lowercase().contains("checksum");
        refused && !mismatch && (speaks_of_it || matches!(self.code.as_str(), "NotImplemented" | "MalformedXML"))
    }

    /// Whether the store may have refused to replace a part: as rclone says it, or as Aliyun OSS
    /// does of an upload in sequence.
    pub(super) fn may_mean_not_replaced(&self) -> bool {
        matches!(self.code.as_str(), "NotImplemented" | "PartNotSequential" | "PartAlreadyExist")
    }

    /// Whether fresh credentials may help.
    pub(super) fn may_be_about_credentials(&self) -> bool {
        // Garage answers an unknown key with AccessDenied.
        const CODES: &[&str] = &[
            "AccessDenied",
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidToken",
            "RequestExpired",
            "SignatureDoesNotMatch",
            "TokenRefreshRequired",
        ];
        CODES.contains(&self.code.as_str())
            || self.hint == NO_CREDENTIALS
            || self.code.is_empty() && matches!(self.status, Some(400 | 401 | 403))
    }

    /// The failure as the trait's error.
    pub(super) fn into_error(self, op: &'static str, target: String) -> StoreError {
        StoreError { op, target, cause: self.cause, trouble: self.trouble, hint: self.hint }
    }
}

/// What the SDK puts in place of a code when an answer to HEAD, which has no body, has none.
const HEAD_CODES: &[&str] = &["NotFound"];

const NO_CREDENTIALS: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE with ~/.aws/credentials, \
     or give the machine a role; they are read again at each try";
const RENEW: &str = "renew the credentials in ~/.aws/credentials, or restart reeltime with new ones in its environment; \
     files and roles are read again at each try";
const KEYS: &str = "check access key and secret, and that they belong to this store; files are read again at each try";
const POLICY: &str = "allow s3:PutObject, s3:GetObject, s3:ListBucket, s3:AbortMultipartUpload, \
     s3:ListMultipartUploadParts and s3:ListBucketMultipartUploads on bucket and prefix";
const NO_BUCKET: &str = "create the bucket, or correct --to";
const REGION: &str = "the bucket is elsewhere: set --s3-region or --s3-endpoint accordingly";
const CLOCK: &str = "the clocks of this machine and of the store differ: set this one (chronyc tracking, timedatectl)";
const BUSY: &str = "the store is busy or broken; it is tried again, and nothing is lost";
const FULL: &str = "the store is full: free space there, or raise its quota; it is tried again, and nothing is lost";
const UNSUPPORTED: &str = "the store does not know this request; see docs/PROVIDERS.md for stores that work";
/// For a part that is refused because there is one of its number.
pub(super) const NOT_REPLACED: &str = "the store does not replace parts: what was rewritten is sent when the recording \
     has ended, in a new upload; see docs/PROVIDERS.md";
const BAD_NAME: &str = "rename the recording, or choose a shorter prefix";

/// Codes that mean the same for every request.
const TABLE: &[(&[&str], Trouble, &str)] = &[
    (
        &[
            "Busy",
            "ConditionalRequestConflict",
            "IncompleteBody",
            "InternalError",
            "InternalServerError",
            "OperationAborted",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestTimeout",
            "RequestTimeoutException",
            "ServerBusy",
            "ServiceUnavailable",
            "SlowDown",
            "SlowDownRead",
            "SlowDownWrite",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
            "TooManyRequestsException",
            "XMinioServerNotInitialized",
        ],
        Trouble::Outage,
        BUSY,
    ),
    (&["InsufficientStorage", "XMinioStorageFull"], Trouble::Outage, FULL),
    (&["RequestTimeTooSkewed", "RequestInTheFuture"], Trouble::Outage, CLOCK),
    (&["NoSuchUpload"], Trouble::NoSuchUpload, ""),
    (
        &[
            "BadDigest",
            "EntityTooSmall",
            "InvalidDigest",
            "InvalidPart",
            "InvalidPartNumber",
            "InvalidPartOrder",
            "XAmzContentChecksumMismatch",
            "XAmzContentSHA256Mismatch",
        ],
        Trouble::InvalidPart,
        "",
    ),
    (&["NoSuchBucket"], Trouble::Denied, NO_BUCKET),
    (&["AccessDenied", "AllAccessDisabled", "AccountProblem", "NotSignedUp"], Trouble::Denied, POLICY),
    (
        &["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken", "RequestExpired"],
        Trouble::Denied,
        RENEW,
    ),
    (
        &["InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSecurity", "SignatureDoesNotMatch"],
        Trouble::Denied,
        KEYS,
    ),
    (
        &[
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
            "InvalidRegionName",
            "PermanentRedirect",
            "Redirect",
            "TemporaryRedirect",
        ],
        Trouble::Denied,
        REGION,
    ),
    (&["InvalidBucketName"], Trouble::Denied, NO_BUCKET),
    (&["QuotaExceeded", "XMinioAdminBucketQuotaExceeded"], Trouble::Denied, FULL),
    (&["MethodNotAllowed", "NotImplemented"], Trouble::Denied, UNSUPPORTED),
    (
        &["InvalidObjectName", "InvalidURI", "KeyTooLong", "KeyTooLongError", "XMinioInvalidObjectName"],
        Trouble::Refused,
        BAD_NAME,
    ),
    (&["EntityTooLarge"], Trouble::Refused, "choose a larger --part-size"),
];

/// What an answer of this status and code means, and what to do.
fn meaning(status: u16, code: &str) -> (Trouble, &'static str) {
    if let Some((_, trouble, hint)) = TABLE.iter().find(|(codes, ..)| codes.contains(&code)) {
        return (*trouble, hint);
    }
    match status {
        501 => (Trouble::Denied, UNSUPPORTED),
        507 => (Trouble::Outage, FULL),
        // A success that cannot be read is of unknown effect.
        200..=299 | 408 | 409 | 425 | 429 | 500..=599 => (Trouble::Outage, BUSY),
        300..=399 => (Trouble::Denied, REGION),
        401 | 403 => (Trouble::Denied, POLICY),
        404 => (Trouble::Denied, "check the address of the store and the name of the bucket"),
        413 => (
            Trouble::Denied,
            "a proxy before the store limits the size of requests: raise its limit, or choose a smaller --part-size",
        ),
        _ => (Trouble::Denied, "the store refuses the request; its words tell why"),
    }
}

/// An error and its causes in words, without what is said twice.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut last = words.clone();
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if !last.contains(&text) {
            let _ = write!(words, ": {text}");
        }
        last = text;
        next = error.source();
    }
    words
}

/// The first error of type `T` among an error and its causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Whether this process, or this machine, may open no more files.
fn lacks_open_files(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| matches!(io.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))) {
            return true;
        }
        // What such an error wraps is no source of it, but that one's is.
        next = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_sdk_s3::operation::head_object::HeadObjectError;
    use aws_smithy_runtime_api::client::result::ConnectorError;

    use super::*;

    #[test]
    fn codes_mean_what_the_core_decides_upon() {
        for (status, code, trouble) in [
            (503, "SlowDown", Trouble::Outage),
            (400, "RequestTimeout", Trouble::Outage),
            (403, "RequestTimeTooSkewed", Trouble::Outage),
            (200, "InternalError", Trouble::Outage),
            (507, "XMinioStorageFull", Trouble::Outage),
            (404, "NoSuchUpload", Trouble::NoSuchUpload),
            (404, "NoSuchBucket", Trouble::Denied),
            (403, "AccessDenied", Trouble::Denied),
            (400, "ExpiredToken", Trouble::Denied),
            (403, "SignatureDoesNotMatch", Trouble::Denied),
            (501, "NotImplemented", Trouble::Denied),
            (400, "EntityTooSmall", Trouble::InvalidPart),
            (400, "InvalidPart", Trouble::InvalidPart),
            (400, "BadDigest", Trouble::InvalidPart),
            (400, "KeyTooLongError", Trouble::Refused),
            (400, "EntityTooLarge", Trouble::Refused),
        ] {
            assert_eq!(meaning(status, code).0, trouble, "{status} {code}");
        }
    }

    #[test]
    fn a_process_that_may_open_no_more_files_does_not_blame_the_store() {
        let connecting = |number| {
            let error = io::Error::other(io::Error::from_raw_os_error(number));
            let error = SdkError::dispatch_failure(ConnectorError::io(error.into()));
            Failure::of::<HeadObjectError>(&error)
        };
        let few = connecting(libc::EMFILE);
        assert_eq!(few.trouble, Trouble::Outage);
        assert!(few.cause.contains("Too many open files"), "{}", few.cause);
        assert!(few.hint.contains("LimitNOFILE="), "{}", few.hint);
        let refused = connecting(libc::ECONNREFUSED);
        assert!(refused.hint.contains("check that the store is up"), "{}", refused.hint);
    }

    #[test]
    fn an_unknown_answer_never_gives_a_recording_up() {
        for status in 100..600 {
            let trouble = meaning(status, "SomethingNew").0;
            assert!(matches!(trouble, Trouble::Outage | Trouble::Denied), "{status}: {trouble:?}");
        }
        for status in [200, 408, 409, 429, 500, 502, 503, 504] {
            assert_eq!(meaning(status, "").0, Trouble::Outage, "{status}");
        }
        for status in [301, 307, 400, 401, 403, 404, 405, 411, 413, 501] {
            assert_eq!(meaning(status, "").0, Trouble::Denied, "{status}");
        }
    }

    #[test]
    fn no_code_is_in_the_table_twice_and_all_that_is_denied_has_a_hint() {
        let mut codes: Vec<_> = TABLE.iter().flat_map(|(codes, ..)| *codes).collect();
        codes.sort_unstable();
        let count = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), count);
        assert!(TABLE.iter().all(|(_, trouble, hint)| *trouble != Trouble::Denied || !hint.is_empty()));
    }

    #[test]
    fn a_refused_checksum_is_told_from_a_wrong_one() {
        let failure = |status, code: &str, message: &str| Failure {
            status: Some(status),
            code: code.to_owned(),
            ..Failure::new(meaning(status, code).0, format!("{code}: {message}"))
        };
        assert!(
            failure(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-crc64nvme'").may_be_about_checksums()
        );
        assert!(failure(501, "NotImplemented", "A header you provided is not implemented").may_be_about_checksums());
        assert!(!failure(400, "BadDigest", "The CRC64NVME checksum did not match").may_be_about_checksums());
        assert!(!failure(403, "AccessDenied", "no checksum for you").may_be_about_checksums());
        assert!(!failure(400, "InvalidArgument", "Part number must be a number").may_be_about_checksums());
    }
}
