//! Real requests over loopback.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;

use reeltime_core::StreamId;

use super::*;
