//! The connection that reads.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::Mutex;

use super::connection::open_for_reading;
use super::failure::Failure;

/// A connection for one read after the other, each on a thread where it may block. It is
/// opened anew after an error.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    connection: Arc<Mutex<Option<Connection>>>,
}

impl Reader {
    pub(super) fn new(connection: Connection, path: PathBuf) -> Self {
        Self { path, connection: Arc::new(Mutex::new(Some(connection))) }
    }

    /// Reads in one statement, or one transaction: that is what makes it a consistent picture.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        // Waiting for the turn is done here, where it holds up no thread.
        let mut turn = Arc::clone(&self.connection).lock_owned().await;
        let path = self.path.clone();
        let read = move || {
            let connection = match turn.take() {
                Some(connection) => connection,
                None => open_for_reading(&path)?,
            };
            let found = query(&connection)?;
            *turn = Some(connection);
            Ok(found)
        };
        let ended = |error| Err(Failure::passing(format!("the read was broken off: {error}")));
        tokio::task::spawn_blocking(read).await.unwrap_or_else(ended)
    }
}
