//! The tables, and how those of an older version become those of this one.
//!
//! `PRAGMA application_id` says that a file is reeltime's, `PRAGMA user_version` which of the
//! migrations it has seen. All that are missing run in one transaction, so that a crash leaves
//! the old schema or the new one. A file of a newer version, or of another program, is not
//! touched.

use rusqlite::{Connection, TransactionBehavior};

use super::failure::Failure;

/// `reel`: what `file` and the shell's `PRAGMA application_id` show.
pub(super) const APPLICATION_ID: i32 = 0x7265_656c;

/// One script for each version of the schema, from 1. Released ones are never changed.
const MIGRATIONS: &[&str] = &[include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// The version that this program writes.
pub(super) const SCHEMA: usize = MIGRATIONS.len();

/// What a file is, before anything was done to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Nothing is in it yet.
    Empty,
    /// reeltime's, of this version or an older one.
    Schema(usize),
}

/// Looks what a file is, without changing it. An error for one that this program must not use.
pub(super) fn inspect(connection: &Connection) -> Result<Found, Failure> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    if application == 0 && version == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 {
        return Ok(Found::Empty);
    }
    if application != i64::from(APPLICATION_ID) {
        return Err(Failure::lasting("it is the database of another program: choose another --state"));
    }
    match usize::try_from(version) {
        Ok(version) if (1..=SCHEMA).contains(&version) => Ok(Found::Schema(version)),
        _ => Err(Failure::lasting(format!(
            "written by a newer reeltime (schema {version}, this one knows {SCHEMA}): upgrade, or choose another --state"
        ))),
    }
}

/// Brings a file to [`SCHEMA`]. Durable when it returns.
pub(super) fn migrate(connection: &mut Connection, found: Found) -> Result<(), Failure> {
    let done = match found {
        Found::Empty => 0,
        Found::Schema(SCHEMA) => return Ok(()),
        Found::Schema(version) => version,
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for script in &MIGRATIONS[done..] {
        transaction.execute_batch(script)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA as i64)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::rows::{PART_COLUMNS, PART_WIDTH, STREAM_COLUMNS, STREAM_WIDTH};
    use super::*;

    fn migrated() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        let found = inspect(&connection).unwrap();
        assert_eq!(found, Found::Empty);
        migrate(&mut connection, found).unwrap();
        connection
    }

    #[test]
    fn an_empty_file_becomes_one_of_this_version() {
        let mut connection = migrated();
        let found = inspect(&connection).unwrap();
        assert_eq!(found, Found::Schema(SCHEMA));
        migrate(&mut connection, found).expect("there is nothing left to do");
    }

    #[test]
    fn the_columns_are_those_of_the_tables_in_their_order() {
        let connection = migrated();
        for (table, columns, width) in [("streams", STREAM_COLUMNS, STREAM_WIDTH), ("parts", PART_COLUMNS, PART_WIDTH)]
        {
            let statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
            assert_eq!(statement.column_names().collect::<Vec<_>>().join(", "), columns);
            assert_eq!(statement.column_count(), width);
        }
        connection.prepare("SELECT * FROM overview").unwrap();
    }

    #[test]
    fn a_newer_file_and_another_programs_are_left_alone() {
        let connection = migrated();
        connection.pragma_update(None, "user_version", SCHEMA as i64 + 1).unwrap();
        let told = inspect(&connection).unwrap_err().to_string();
        assert!(told.contains("written by a newer reeltime (schema 3, this one knows 2)"), "{told}");

        let other = Connection::open_in_memory().unwrap();
        other.execute_batch("CREATE TABLE notes (text)").unwrap();
        let told = inspect(&other).unwrap_err().to_string();
        assert!(told.contains("another program"), "{told}");
    }
}
