//! What is in a file: a row for each key of a partial, in order of windows, and the epochs that were known at its end.

use bytes::Bytes;
use clickmill_schemas::partial::{Metrics, Owner, Version, WindowKey, take_entries};
use clickmill_schemas::{Epoch, Generation, Offset, PartitionId};
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::held::{Held, Partials};
use crate::numbers::{bigint, integer};
use crate::windows::Epochs;

/// The columns; readers find them by name, we by their place.
const SCHEMA: &str = "message clickmill_windows {
    required binary run (STRING);
    required int32 partition;
    required int32 generation;
    required int64 epoch;
    required int64 as_of_offset;
    required int64 window_size_ms;
    required int64 window_start (TIMESTAMP(MILLIS, true));
    required binary dimension (STRING);
    required binary key (STRING);
    required boolean lower_bound;
    required int64 impressions;
    required int64 clicks;
    required int64 conversions;
    required int64 cost_micros;
    required int64 revenue_micros;
}";

/// Key of the epochs among what a file says about itself: a sink that goes on behind it begins with them.
const EPOCHS: &str = "clickmill.epochs";

/// Rows in one group, at least: what is in memory as columns at once.
const GROUP_ROWS: usize = 1 << 17;

/// A file's bytes and its number of rows.
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub rows: u64,
}

/// Columns of a group of rows, in the order of [`SCHEMA`].
#[derive(Default)]
struct Columns {
    run: Vec<ByteArray>,
    partition: Vec<i32>,
    generation: Vec<i32>,
    epoch: Vec<i64>,
    as_of_offset: Vec<i64>,
    window_size_ms: Vec<i64>,
    window_start: Vec<i64>,
    dimension: Vec<ByteArray>,
    key: Vec<ByteArray>,
    lower_bound: Vec<bool>,
    metrics: [Vec<i64>; 5],
}

impl Columns {
    fn push_all(&mut self, owner: &Owner, window: &WindowKey, held: &Held) {
        // They were read when they were taken.
        let mut entries = take_entries(&held.entries).unwrap_or_default();
        if entries.is_empty() {
            // A partial without keys takes the place of one with some: a row of zeros says so.
            entries.push((String::new(), Metrics::default()));
        }
        let (run, dimension) = (ByteArray::from(owner.run.to_string().as_str()), window.dimension.as_str().into());
        for (key, m) in entries {
            self.run.push(run.clone());
            self.partition.push(integer(owner.partition.0));
            self.generation.push(integer(owner.generation.0));
            self.epoch.push(bigint(held.version.epoch.0));
            self.as_of_offset.push(bigint(held.version.as_of.0));
            self.window_size_ms.push(window.size_ms);
            self.window_start.push(window.start_ms);
            self.dimension.push(ByteArray::clone(&dimension));
            self.key.push(key.as_str().into());
            self.lower_bound.push(held.lower_bound);
            let sums = [m.impressions, m.clicks, m.conversions, m.cost_micros, m.revenue_micros];
            self.metrics.iter_mut().zip(sums).for_each(|(column, sum)| column.push(sum));
        }
    }

    fn write(self, file: &mut SerializedFileWriter<Vec<u8>>) -> Result<(), ParquetError> {
        let mut group = file.next_row_group()?;
        put::<ByteArrayType>(&mut group, &self.run)?;
        put::<Int32Type>(&mut group, &self.partition)?;
        put::<Int32Type>(&mut group, &self.generation)?;
        for column in [&self.epoch, &self.as_of_offset, &self.window_size_ms, &self.window_start] {
            put::<Int64Type>(&mut group, column)?;
        }
        put::<ByteArrayType>(&mut group, &self.dimension)?;
        put::<ByteArrayType>(&mut group, &self.key)?;
        put::<BoolType>(&mut group, &self.lower_bound)?;
        for column in &self.metrics {
            put::<Int64Type>(&mut group, column)?;
        }
        group.close()?;
        Ok(())
    }
}

fn put<T: DataType>(group: &mut SerializedRowGroupWriter<'_, Vec<u8>>, values: &[T::T]) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.ok_or_else(|| ParquetError::General("a column too many".to_owned()))?;
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

/// The partials that lie at `from` or behind it, as a file.
///
/// # Errors
/// [`ParquetError`] of the library.
pub fn encode(partials: &Partials, from: Offset, epochs: &Epochs) -> Result<Encoded, ParquetError> {
    let epochs = serde_json::to_string(epochs).map_err(|e| ParquetError::External(e.into()))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(vec![KeyValue::new(EPOCHS.to_owned(), epochs)]))
        .build();
    let mut file = SerializedFileWriter::new(Vec::new(), parse_message_type(SCHEMA)?.into(), properties.into())?;
    let mut sorted: Vec<_> = partials.iter().filter(|(_, held)| held.offset >= from).collect();
    sorted.sort_unstable_by_key(|&((owner, window), _)| (window, owner));
    let (mut columns, mut rows) = (Columns::default(), 0);
    for ((owner, window), held) in sorted {
        columns.push_all(owner, window, held);
        if columns.key.len() >= GROUP_ROWS {
            rows += columns.key.len();
            std::mem::take(&mut columns).write(&mut file)?;
        }
    }
    rows += columns.key.len();
    if !columns.key.is_empty() {
        columns.write(&mut file)?;
    }
    Ok(Encoded { bytes: file.into_inner()?, rows: rows as u64 })
}

/// A row, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub owner: Owner,
    pub window: WindowKey,
    pub version: Version,
    pub key: String,
    pub lower_bound: bool,
    pub metrics: Metrics,
}

/// Hands all rows of a file over.
///
/// # Errors
/// [`ParquetError`] where it is no file of ours.
pub fn decode(bytes: Bytes, mut each: impl FnMut(Row)) -> Result<(), ParquetError> {
    let file = SerializedFileReader::new(bytes)?;
    for i in 0..file.num_row_groups() {
        let group = file.get_row_group(i)?;
        let group = &*group;
        let run = get::<ByteArrayType>(group, 0)?;
        let (partition, generation) = (get::<Int32Type>(group, 1)?, get::<Int32Type>(group, 2)?);
        let (epoch, as_of) = (get::<Int64Type>(group, 3)?, get::<Int64Type>(group, 4)?);
        let (size, start) = (get::<Int64Type>(group, 5)?, get::<Int64Type>(group, 6)?);
        let (dimension, key) = (get::<ByteArrayType>(group, 7)?, get::<ByteArrayType>(group, 8)?);
        let lower_bound = get::<BoolType>(group, 9)?;
        let sums: Vec<Vec<i64>> = (10..15).map(|i| get::<Int64Type>(group, i)).collect::<Result<_, _>>()?;
        for row in 0..run.len() {
            let run = run[row].as_utf8()?.parse().map_err(|e| ParquetError::External(Box::new(e)))?;
            let sum = |i: usize| sums[i][row];
            each(Row {
                owner: Owner {
                    run,
                    partition: PartitionId(partition[row].unsigned_abs()),
                    generation: Generation(generation[row].unsigned_abs()),
                },
                window: WindowKey {
                    size_ms: size[row],
                    start_ms: start[row],
                    dimension: dimension[row].as_utf8()?.to_owned(),
                },
                version: Version { epoch: Epoch(epoch[row].unsigned_abs()), as_of: Offset(as_of[row].unsigned_abs()) },
                key: key[row].as_utf8()?.to_owned(),
                lower_bound: lower_bound[row],
                metrics: Metrics {
                    impressions: sum(0),
                    clicks: sum(1),
                    conversions: sum(2),
                    cost_micros: sum(3),
                    revenue_micros: sum(4),
                },
            });
        }
    }
    Ok(())
}

/// All values of a column, as many as the group has rows.
fn get<T: DataType>(group: &dyn RowGroupReader, at: usize) -> Result<Vec<T::T>, ParquetError> {
    let mut reader = get_typed_column_reader::<T>(group.get_column_reader(at)?);
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
    let mut values = Vec::with_capacity(rows);
    reader.read_records(rows, None, None, &mut values)?;
    if values.len() == rows {
        return Ok(values);
    }
    Err(ParquetError::General(format!("column {at} has {} values in {rows} rows", values.len())))
}

/// The epochs that were known at a file's end.
///
/// # Errors
/// [`ParquetError`] where it is no file of ours.
pub fn epochs(bytes: Bytes) -> Result<Epochs, ParquetError> {
    let file = SerializedFileReader::new(bytes)?;
    let said = file.metadata().file_metadata().key_value_metadata();
    let text = said.and_then(|all| all.iter().find(|said| said.key == EPOCHS)?.value.as_deref());
    let text = text.ok_or_else(|| ParquetError::General(format!("it does not say its {EPOCHS}")))?;
    serde_json::from_str(text).map_err(|e| ParquetError::External(e.into()))
}
