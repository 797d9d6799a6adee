//! The SDK's client, set up so that nothing retries, hashes or waits behind the core's back.

use std::time::{Duration, Instant};

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_types::service_config::ServiceConfigKey;
use tokio::sync::Mutex;

use super::S3Config;
use super::plain::SaysMinio;
use super::xml::WellFormed;

/// Without a region from anywhere: what stores other than AWS mostly accept.
const DEFAULT_REGION: &str = "us-east-1";

/// Credentials that were refused are read again, but not more often than this.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// The client, and how to make a new one with fresh credentials.
///
/// The SDK keeps credentials without an expiry for ever, and a profile file as it was first
/// read. Here a refusal makes the next request begin with a new chain of providers, so that
/// new keys in a file are found without a restart. Connections are kept.
pub(super) struct Clients {
    config: S3Config,
    http: SharedHttpClient,
    says_minio: SaysMinio,
    current: Mutex<Current>,
}

struct Current {
    client: Client,
    endpoint: Option<String>,
    made: Instant,
    refused: bool,
}

impl Clients {
    pub(super) async fn new(config: S3Config) -> Self {
        let http =
            aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let says_minio = SaysMinio::default();
        let (client, endpoint) = make(&config, http.clone(), says_minio.clone()).await;
        let current = Current { client, endpoint, made: Instant::now(), refused: false };
        Self { config, http, says_minio, current: Mutex::new(current) }
    }

    /// The client to use for one request.
    pub(super) async fn get(&self) -> Client {
        let mut current = self.current.lock().await;
        if current.refused && current.made.elapsed() >= RENEW_EVERY {
            let (client, endpoint) = make(&self.config, self.http.clone(), self.says_minio.clone()).await;
            *current = Current { client, endpoint, made: Instant::now(), refused: false };
        }
        current.client.clone()
    }

    /// Whether it is `MinIO`, by what it has answered so far.
    pub(super) fn is_minio(&self) -> bool {
        self.says_minio.get()
    }

    /// Says that the credentials were refused.
    pub(super) async fn credentials_were_refused(&self) {
        self.current.lock().await.refused = true;
    }

    /// Makes the client so old that it may be renewed.
    #[cfg(test)]
    pub(super) async fn let_time_pass(&self) {
        let mut current = self.current.lock().await;
        current.made = current.made.checked_sub(RENEW_EVERY).unwrap_or(current.made);
    }

    /// The store's address if it is not AWS's own.
    pub(super) async fn endpoint(&self) -> Option<String> {
        self.current.lock().await.endpoint.clone()
    }
}

/// A client and the endpoint it uses, if one was named.
async fn make(config: &S3Config, http: SharedHttpClient, says_minio: SaysMinio) -> (Client, Option<String>) {
    let timeouts = TimeoutConfig::builder().connect_timeout(config.patience.connect).disable_read_timeout().build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .region(region(config).await);
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(credentials) = &config.credentials {
        loader = loader.credentials_provider(credentials.clone());
    }
    let shared = loader.load().await;
    let endpoint = endpoint_of(config, &shared);
    let mut builder = aws_sdk_s3::config::Builder::from(&shared).interceptor(WellFormed).interceptor(says_minio);
    if endpoint.as_deref().is_some_and(|endpoint| !is_aws(endpoint)) {
        builder = builder.force_path_style(true);
    }
    (Client::from_conf(builder.build()), endpoint)
}

/// The endpoint that the SDK will use: the configured one, `AWS_ENDPOINT_URL_S3`, a profile's
/// `services` section, `AWS_ENDPOINT_URL`; `None` for AWS's own.
fn endpoint_of(config: &S3Config, shared: &SdkConfig) -> Option<String> {
    if config.endpoint.is_some() {
        return config.endpoint.clone();
    }
    let key = ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build().ok();
    let for_s3 = key.zip(shared.service_config()).and_then(|(key, config)| config.load_config(key));
    for_s3.or_else(|| shared.endpoint_url().map(str::to_owned))
}

/// The region: the configured one, that of the environment or profile, or the machine's, which
/// is only asked for where the store may be AWS itself.
async fn region(config: &S3Config) -> Region {
    if let Some(region) = &config.region {
        return Region::new(region.clone());
    }
    let named_endpoint = config.endpoint.as_deref().is_some_and(|endpoint| !is_aws(endpoint))
        || std::env::var_os("AWS_ENDPOINT_URL").is_some()
        || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
    let found = if named_endpoint {
        RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(ProfileFileRegionProvider::new())
            .region()
            .await
    } else {
        RegionProviderChain::default_provider().region().await
    };
    found.unwrap_or(Region::from_static(DEFAULT_REGION))
}

/// Whether an endpoint is one of AWS, where buckets are host names.
pub(super) fn is_aws(endpoint: &str) -> bool {
    let host = host_of(endpoint);
    host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn")
}

/// The host of a URL, without port.
pub(super) fn host_of(endpoint: &str) -> &str {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_is_known_by_its_host() {
        assert!(is_aws("https://s3.eu-central-1.amazonaws.com"));
        assert!(is_aws("https://bucket.vpce-1.s3.cn-north-1.vpce.amazonaws.com.cn:443/x"));
        assert!(!is_aws("http://127.0.0.1:9000"));
        assert!(!is_aws("https://amazonaws.com.example.org/s3.amazonaws.com"));
        assert_eq!(host_of("http://[::1]:9000/"), "[::1]");
    }
}
