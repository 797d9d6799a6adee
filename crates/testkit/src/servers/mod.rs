//! Real servers that tests start, stop, kill, freeze and restart.

mod garage;
mod leavings;
mod minio;
pub mod moto;
pub mod port;
pub mod process;
pub mod redis;
pub mod s3;
pub mod shared;
mod signals;
pub mod sigv4;
pub mod store;

pub use moto::Moto;
pub use port::Port;
pub use process::{Exited, Launch, Process};
pub use redis::{
    CommandCalls, Redis, RedisCertificates, RedisClient, RedisCluster, RedisOptions, RedisProgram, RedisSentinels,
    Reply,
};
pub use s3::S3;
pub use shared::Shared;
pub use sigv4::Credentials;
pub use store::{Provider, Store};
