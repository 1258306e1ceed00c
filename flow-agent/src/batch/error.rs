//! What is wrong with octets that should be a block.

/// Why octets are no block of the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message says what each field is")]
pub enum BlockError {
    /// They end too early.
    #[error("the block ends within {within}; it is damaged and cannot be read")]
    Cut { within: &'static str },
    /// A number is too large to be true.
    #[error("the block says it has {number} {what}, more than a block can have; it is damaged")]
    TooMany { what: &'static str, number: u64 },
    /// A name or text that is not UTF-8.
    #[error("{what} of the block is no text; the block is damaged")]
    NoText { what: &'static str },
    /// Octets follow its last column.
    #[error("{octets} octets follow the block; it is damaged or two were joined")]
    Rest { octets: usize },
    /// A type that this agent does not write.
    #[error("column {column} of the block is of type {kind}, which this agent does not write")]
    Type { column: String, kind: String },
    /// A column that is needed.
    #[error("the block has no column {column}, so it holds no rows of this table")]
    Missing { column: &'static str },
    /// A value that the type does not have.
    #[error("column {column} of the block has a value that its type has not; it is damaged")]
    Value { column: String },
}
