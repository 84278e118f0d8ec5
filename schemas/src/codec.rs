//! Confluent framing and Avro, straight between bytes and our structs.
//!
//! A framed value is `0x00`, the schema id as four bytes big-endian, then the Avro datum
//! (<https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format>).
//! Values are read with the schema that wrote them: serde matches fields by name and takes defaults for those that the
//! writer did not have. A writer that has more fields than we know is read through Avro's own resolution instead, which is
//! slower: serde's way can't pass over a record that it doesn't know. Both are all that FULL_TRANSITIVE evolution needs.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;

use crate::record::Record;
use crate::registry::{Registry, RegistryError};
use crate::shape::Shape;

/// Bytes before the datum.
pub const HEADER_BYTES: usize = 5;

/// A value that is not a framed record of ours.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Too short, or the first byte isn't zero.
    #[error("not Confluent framing: {length} bytes, first byte {first:?}")]
    Framing {
        /// Bytes in the value.
        length: usize,
        /// Its first byte.
        first: Option<u8>,
    },
    /// The datum doesn't fit its schema or our struct.
    #[error("schema id {schema_id}: the datum doesn't decode as {record}")]
    Datum {
        /// Id in the header.
        schema_id: u32,
        /// Record that was expected.
        record: &'static str,
        /// What Avro says.
        #[source]
        source: Box<apache_avro::Error>,
    },
    /// The registry doesn't know the id, or couldn't be asked.
    #[error("schema id {schema_id} could not be had from the registry")]
    Schema {
        /// Id in the header.
        schema_id: u32,
        /// What the registry says.
        #[source]
        source: RegistryError,
    },
    /// The registry's schema is no Avro schema.
    #[error("schema id {schema_id} is not an Avro schema")]
    BadSchema {
        /// Id in the header.
        schema_id: u32,
        /// What Avro says.
        #[source]
        source: Box<apache_avro::Error>,
    },
}

impl FrameError {
    /// Whether asking again can help: the registry was away. Everything else is definite.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Schema { source, .. } if source.is_transient())
    }
}

/// What stands before the datum of a value of this schema.
pub const fn header(schema_id: u32) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = schema_id.to_be_bytes();
    [0, a, b, c, d]
}

/// The schema id of a framed value.
pub fn schema_id_of(value: &[u8]) -> Result<u32, FrameError> {
    match value {
        [0, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err(FrameError::Framing { length: value.len(), first: value.first().copied() }),
    }
}

/// Our own parsed schema of a record, parsed once a process.
pub fn schema_of<R: Record>() -> &'static Schema {
    static PARSED: OnceLock<RwLock<HashMap<&'static str, &'static Schema>>> = OnceLock::new();
    let parsed = PARSED.get_or_init(RwLock::default);
    if let Some(schema) = parsed.read().unwrap_or_else(PoisonError::into_inner).get(R::NAME) {
        return schema;
    }
    let schema = Schema::parse_str(R::SCHEMA).unwrap_or_else(|error| panic!("our own {} schema: {error}", R::NAME));
    parsed.write().unwrap_or_else(PoisonError::into_inner).entry(R::NAME).or_insert_with(|| Box::leak(Box::new(schema)))
}

/// Writes framed values of one record under the id that the registry gave its schema.
pub struct Encoder<R> {
    schema_id: u32,
    writer: GenericDatumWriter<'static>,
    record: PhantomData<fn(&R)>,
}

impl<R: Record> Encoder<R> {
    /// An encoder for the id under which [`Record::SCHEMA`] is registered.
    pub fn new(schema_id: u32) -> Self {
        let writer = GenericDatumWriter::builder(schema_of::<R>())
            .human_readable(false)
            .build()
            .unwrap_or_else(|error| panic!("our own {} schema: {error}", R::NAME));
        Self { schema_id, writer, record: PhantomData }
    }

    /// The framed value. Fails only if the struct and its schema disagree, which the tests rule out.
    pub fn encode(&self, value: &R) -> Result<Vec<u8>, FrameError> {
        let mut framed = Vec::with_capacity(256);
        framed.extend_from_slice(&header(self.schema_id));
        self.writer.write_ser(&mut framed, value).map_err(|source| FrameError::Datum {
            schema_id: self.schema_id,
            record: R::NAME,
            source: Box::new(source),
        })?;
        Ok(framed)
    }
}

/// How values of one schema are read.
enum Reader {
    /// Straight into our struct.
    Direct(GenericDatumReader<'static>),
    /// Resolved to our schema first.
    Resolved(GenericDatumReader<'static>),
}

impl Reader {
    fn read<R: Record>(&self, mut datum: &[u8]) -> Result<R, apache_avro::Error> {
        match self {
            Self::Direct(reader) => reader.read_deser(&mut datum),
            Self::Resolved(reader) => apache_avro::from_value(&reader.read_value(&mut datum)?),
        }
    }
}

/// Reads framed values of one record, whichever version of the schema wrote them.
///
/// Schemas are asked of the registry once an id and kept, so that a reader goes on while the registry is away.
pub struct Decoder<R> {
    registry: Arc<Registry>,
    own_schema_id: u32,
    readers: RwLock<HashMap<u32, Arc<Reader>>>,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> Decoder<R> {
    /// A decoder that knows our own schema's id already.
    pub fn new(registry: Arc<Registry>, own_schema_id: u32) -> Self {
        let decoder = Self { registry, own_schema_id, readers: RwLock::default(), record: PhantomData };
        if let Ok(reader) = GenericDatumReader::builder(schema_of::<R>()).human_readable(false).build() {
            decoder.keep(own_schema_id, Reader::Direct(reader));
        }
        decoder
    }

    /// The record in a framed value.
    pub async fn decode(&self, value: &[u8]) -> Result<R, FrameError> {
        let schema_id = schema_id_of(value)?;
        if schema_id == self.own_schema_id
            && let Some(record) = R::of_datum(&value[HEADER_BYTES..])
        {
            return Ok(record);
        }
        let known = self.readers.read().unwrap_or_else(PoisonError::into_inner).get(&schema_id).cloned();
        let reader = match known {
            Some(reader) => reader,
            None => self.learn(schema_id).await?,
        };
        reader.read(&value[HEADER_BYTES..]).map_err(|source| FrameError::Datum {
            schema_id,
            record: R::NAME,
            source: Box::new(source),
        })
    }

    async fn learn(&self, schema_id: u32) -> Result<Arc<Reader>, FrameError> {
        let text =
            self.registry.schema_by_id(schema_id).await.map_err(|source| FrameError::Schema { schema_id, source })?;
        let bad = |source| FrameError::BadSchema { schema_id, source: Box::new(source) };
        // Few schemas exist in a process' life; leaking them lets readers borrow for ever.
        let schema: &'static Schema = Box::leak(Box::new(Schema::parse_str(&text).map_err(bad)?));
        let builder = GenericDatumReader::builder(schema).human_readable(false);
        let reader = if has_more_fields(&text, R::SCHEMA) {
            Reader::Resolved(builder.reader_schema(schema_of::<R>()).build().map_err(bad)?)
        } else {
            Reader::Direct(builder.build().map_err(bad)?)
        };
        Ok(self.keep(schema_id, reader))
    }

    fn keep(&self, schema_id: u32, reader: Reader) -> Arc<Reader> {
        let mut readers = self.readers.write().unwrap_or_else(PoisonError::into_inner);
        readers.entry(schema_id).or_insert_with(|| Arc::new(reader)).clone()
    }
}

/// Whether a writer's schema has fields that ours doesn't.
fn has_more_fields(writer: &str, own: &str) -> bool {
    let (Ok(writer), Ok(own)) = (Shape::parse(writer), Shape::parse(own)) else { return false };
    let known: HashSet<&str> = own.fields().map(|(_, field)| field.path.as_str()).collect();
    writer.fields().any(|(_, field)| !known.contains(field.path.as_str()))
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
