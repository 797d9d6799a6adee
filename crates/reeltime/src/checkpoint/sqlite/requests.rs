//! What each request does to the tables. Every change is one statement, so that it is done
//! wholly or not at all, and says by the rows it changed whether its condition held.

use reeltime_core::{Part, PartNumber, PartTable, State, StreamId, StreamRecord};
use rusqlite::{Connection, OptionalExtension, Result, params, params_from_iter};

use super::rows::{
    PART_COLUMNS, PART_WIDTH, STREAM_COLUMNS, STREAM_WIDTH, part_values, read_part, read_stream, stream_values,
};

/// A change that was asked for; what each means is said at
/// [`CheckpointStore`](crate::checkpoint::CheckpointStore).
#[derive(Clone, Debug)]
pub(super) enum Write {
    Create(StreamRecord),
    RecordPart { id: StreamId, epoch: u64, generation: u32, number: PartNumber, part: Part },
    Transition { from: State, record: StreamRecord },
    Claim { id: StreamId, epoch: u64, node: String },
    Forget { id: StreamId, epoch: u64 },
}

/// How a change ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It is made, or was before.
    Done,
    /// Its condition does not hold; this was found instead. Nothing was changed.
    Stale(String),
    /// There is no such stream. Nothing was changed.
    Unknown,
}

impl Write {
    /// Its name in errors.
    pub(super) fn op(&self) -> &'static str {
        match self {
            Self::Create(_) => "create stream",
            Self::RecordPart { .. } => "record part",
            Self::Transition { .. } => "update stream",
            Self::Claim { .. } => "claim stream",
            Self::Forget { .. } => "forget stream",
        }
    }

    /// The stream that it changes.
    pub(super) fn stream(&self) -> StreamId {
        match self {
            Self::Create(record) | Self::Transition { record, .. } => record.id,
            Self::RecordPart { id, .. } | Self::Claim { id, .. } | Self::Forget { id, .. } => *id,
        }
    }

    /// Makes the change within the open transaction.
    pub(super) fn apply(&self, connection: &Connection) -> Result<Outcome> {
        match self {
            Self::Create(record) => create(connection, record),
            Self::RecordPart { id, epoch, generation, number, part } => {
                record_part(connection, *id, *epoch, *generation, *number, part)
            }
            Self::Transition { from, record } => transition(connection, *from, record),
            Self::Claim { id, epoch, node } => claim(connection, *id, *epoch, node),
            Self::Forget { id, epoch } => forget(connection, *id, *epoch),
        }
    }
}

fn create(connection: &Connection, record: &StreamRecord) -> Result<Outcome> {
    let sql = format!("INSERT INTO streams ({STREAM_COLUMNS}) VALUES ({}) ON CONFLICT DO NOTHING", marks(STREAM_WIDTH));
    if connection.prepare_cached(&sql)?.execute(params_from_iter(stream_values(record)))? == 1 {
        return Ok(Outcome::Done);
    }
    transition(connection, record.state, record)
}

fn transition(connection: &Connection, from: State, record: &StreamRecord) -> Result<Outcome> {
    let sql = format!(
        "UPDATE streams SET ({STREAM_COLUMNS}) = ({}) WHERE id = ?1 AND epoch = ?3 AND state = ?{}",
        marks(STREAM_WIDTH),
        STREAM_WIDTH + 1
    );
    let values = stream_values(record).into_iter().chain([from.as_str().into()]);
    if connection.prepare_cached(&sql)?.execute(params_from_iter(values))? == 1 {
        return Ok(Outcome::Done);
    }
    // An answer that got lost: the first time did it.
    match read_one(connection, record.id)? {
        Some(found) if found == *record => Ok(Outcome::Done),
        found => Ok(stale(found)),
    }
}

fn record_part(
    connection: &Connection,
    id: StreamId,
    epoch: u64,
    generation: u32,
    number: PartNumber,
    part: &Part,
) -> Result<Outcome> {
    let sql = format!(
        "INSERT OR REPLACE INTO parts ({PART_COLUMNS}) SELECT {} FROM streams WHERE id = ?1 AND epoch = ?{}",
        marks(PART_WIDTH),
        PART_WIDTH + 1
    );
    let values = part_values(id, generation, number, part).into_iter().chain([epoch.cast_signed().into()]);
    match connection.prepare_cached(&sql)?.execute(params_from_iter(values))? {
        1 => Ok(Outcome::Done),
        _ => Ok(stale(read_one(connection, id)?)),
    }
}

fn claim(connection: &Connection, id: StreamId, epoch: u64, node: &str) -> Result<Outcome> {
    let mut update =
        connection.prepare_cached("UPDATE streams SET epoch = ?3, node = ?4 WHERE id = ?1 AND epoch = ?2")?;
    let next = epoch.wrapping_add(1);
    if update.execute(params![id.to_string(), epoch.cast_signed(), next.cast_signed(), node])? == 1 {
        return Ok(Outcome::Done);
    }
    Ok(stale(read_one(connection, id)?))
}

fn forget(connection: &Connection, id: StreamId, epoch: u64) -> Result<Outcome> {
    // The parts follow by their foreign key.
    let mut delete = connection.prepare_cached("DELETE FROM streams WHERE id = ?1 AND epoch = ?2")?;
    if delete.execute(params![id.to_string(), epoch.cast_signed()])? == 1 {
        return Ok(Outcome::Done);
    }
    match read_one(connection, id)? {
        None => Ok(Outcome::Done),
        found => Ok(stale(found)),
    }
}

fn stale(found: Option<StreamRecord>) -> Outcome {
    found.map_or(Outcome::Unknown, |found| {
        Outcome::Stale(format!("state {}, epoch {}, node {}", found.state, found.epoch, found.node))
    })
}

pub(super) fn read_one(connection: &Connection, id: StreamId) -> Result<Option<StreamRecord>> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM streams WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([id.to_string()], read_stream).optional()
}

/// The records of all streams, the oldest first.
pub(super) fn load(connection: &Connection) -> Result<Vec<StreamRecord>> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM streams ORDER BY id");
    connection.prepare_cached(&sql)?.query_map([], read_stream)?.collect()
}

/// The parts of a stream that belong to `generation`.
pub(super) fn load_parts(connection: &Connection, id: StreamId, generation: u32) -> Result<PartTable> {
    let sql = format!("SELECT {PART_COLUMNS} FROM parts WHERE stream_id = ?1 AND generation = ?2");
    let mut table = PartTable::default();
    let mut select = connection.prepare_cached(&sql)?;
    for row in select.query_map(params![id.to_string(), generation], read_part)? {
        let (number, part) = row?;
        table.insert(number, part);
    }
    Ok(table)
}

/// `?1, ?2, …` up to `width`.
fn marks(width: usize) -> String {
    let marks: Vec<_> = (1..=width).map(|number| format!("?{number}")).collect();
    marks.join(", ")
}
