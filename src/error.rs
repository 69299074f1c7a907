//! One error type for the whole engine.
//!
//! [`Error::code`] is the stable string that JavaScript matches on; the message is for people, says what was found and what was
//! expected, and where it can, what to do about it.

use crate::gguf::GgmlType;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong with files, networks, devices and callers. Bugs panic instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // ---- GGUF ----
    /// The first four bytes are not `GGUF`.
    #[error("this is not a GGUF file: it starts with {found:02x?}, not \"GGUF\"")]
    NotGguf {
        /// The first bytes of the file (at most four).
        found: Vec<u8>,
    },
    /// A GGUF version other than 2 and 3.
    #[error("GGUF version {found} is not supported (supported: 2 and 3, little-endian)")]
    GgufVersion {
        /// The version in the file.
        found: u32,
    },
    /// A file written for big-endian machines.
    #[error("this GGUF is big-endian; only little-endian files are supported")]
    BigEndianGguf,
    /// The file ends before what its own header declares.
    #[error("the file is truncated: {section} needs {needed} bytes at offset {offset}, the file has {len}")]
    Truncated {
        /// What was being read.
        section: &'static str,
        /// Bytes that the section needs.
        needed: u64,
        /// Where it starts, in bytes from the start of the file.
        offset: u64,
        /// The file's length in bytes.
        len: u64,
    },
    /// A header field that contradicts another or itself.
    #[error("the GGUF header is malformed at offset {offset}: {what}")]
    MalformedGguf {
        /// Byte offset of the offending field.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A tensor of a type that has no kernel here.
    #[error(
        "tensor {name}: type {found} is not supported (supported: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K)"
    )]
    UnsupportedTensorType {
        /// The tensor's name.
        name: String,
        /// ggml's name of the type, or its number.
        found: String,
    },
    /// A tensor whose type this backend cannot hold in this place.
    #[error("tensor {name}: type {found} is not supported {place}")]
    UnsupportedHere {
        /// The tensor's name.
        name: String,
        /// Its type.
        found: GgmlType,
        /// Where: "on WebGPU", "as a vector", ..
        place: &'static str,
    },
    /// A metadata key that the model or tokenizer needs is absent.
    #[error("the GGUF has no metadata key {key}")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A metadata key with a value that cannot be used.
    #[error("metadata key {key}: {found}, expected {expected}")]
    BadKey {
        /// The key.
        key: String,
        /// What the file says.
        found: String,
        /// What would do.
        expected: String,
    },
    /// Files that are not all parts of one split model, in order.
    #[error("split model: {what}")]
    SplitFile {
        /// What is wrong, and what to give instead.
        what: String,
    },
    /// A tensor that the model needs is absent.
    #[error("the GGUF has no tensor {name}")]
    MissingTensor {
        /// The tensor's name.
        name: String,
    },
    /// A tensor whose dimensions are not the model's.
    #[error("tensor {name}: dimensions {found:?}, expected {expected:?} (fastest first)")]
    TensorShape {
        /// The tensor's name.
        name: String,
        /// ggml `ne`, fastest first.
        found: Vec<u64>,
        /// ggml `ne`, fastest first.
        expected: Vec<u64>,
    },
    /// An architecture, or a variant of one, that is not implemented.
    #[error("{what} is not supported: the file has {found} (supported: {supported})")]
    UnsupportedModel {
        /// What: "the architecture", "mixture of experts", ..
        what: &'static str,
        /// What the file has.
        found: String,
        /// What would work.
        supported: &'static str,
    },

    // ---- text ----
    /// The tokenizer could not be built or failed on a text.
    #[error("tokenizer: {what}")]
    Tokenizer {
        /// What failed.
        what: String,
    },
    /// The GGUF's chat template does not parse or render.
    #[error("the model's chat template failed: {what}")]
    ChatTemplate {
        /// minijinja's message.
        what: String,
    },
    /// A request that makes no sense: a bad role, a negative temperature, an empty message list.
    #[error("{what}")]
    InvalidRequest {
        /// What is wrong and what would be right.
        what: String,
    },

    // ---- source and store ----
    /// The server could not be reached, or the transfer broke.
    #[error("could not download {url}: {what}")]
    Network {
        /// The address.
        url: String,
        /// The browser's words.
        what: String,
    },
    /// The server answered with an error status.
    #[error("could not download {url}: the server answered {status}")]
    HttpStatus {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server answered, but in a way that cannot be used: compressed, the wrong bytes, another length than it should be.
    #[error("could not download {url}: {what}")]
    BadResponse {
        /// The address.
        url: String,
        /// What is wrong with the answer.
        what: String,
    },
    /// The bytes are not those that were published.
    #[error("{url} is not the file it should be: {what}")]
    DigestMismatch {
        /// The address.
        url: String,
        /// Which digest, and what it should be.
        what: String,
    },
    /// The file is another one than when its download began.
    #[error("{url} was replaced by another file while it was being downloaded")]
    FileChanged {
        /// The address.
        url: String,
    },
    /// Something is asked of the store that is not there, or not whole.
    #[error("{id} is not stored in this browser, or not all of it")]
    NotStored {
        /// The key.
        id: String,
    },
    /// Reading a local file failed.
    #[error("could not read {name}: {what}")]
    File {
        /// The file's name.
        name: String,
        /// The system's words.
        what: String,
    },
    /// IndexedDB refused or broke.
    #[error("browser storage failed: {what}")]
    Storage {
        /// The browser's words.
        what: String,
    },

    /// There is no more room in IndexedDB.
    #[error("no more room in the browser's storage: {what}")]
    StorageFull {
        /// In words.
        what: String,
    },

    // ---- devices ----
    /// No usable WebGPU adapter.
    #[error("WebGPU is not available: {what}")]
    NoGpu {
        /// Why.
        what: String,
    },
    /// The GPU failed: validation, out of memory, or the device was lost.
    #[error("the GPU failed: {what}")]
    Gpu {
        /// wgpu's message.
        what: String,
    },
    /// The GPU is gone (driver reset, sleep, another tab).
    #[error("the GPU was lost: {what}")]
    GpuLost {
        /// The browser's reason.
        what: String,
    },
    /// An allocation the size of which the file or the caller asked for failed.
    #[error("not enough memory for {what}: {bytes} bytes")]
    OutOfMemory {
        /// What it was for.
        what: &'static str,
        /// How much.
        bytes: u64,
    },

    /// Threads could not be started, or one of them is gone.
    #[error("the engine's threads failed: {what}")]
    Threads {
        /// What happened.
        what: String,
    },

    // ---- generation ----
    /// The prompt is longer than the context.
    #[error("the conversation needs {needed} tokens, the context holds {n_ctx}: start a new chat or shorten it")]
    ContextFull {
        /// Tokens in the prompt.
        needed: usize,
        /// Size of the context in tokens.
        n_ctx: usize,
    },
    /// NaN or infinity in the logits.
    #[error("the model produced an invalid number; the answer was stopped")]
    NonFiniteLogits,
    /// The caller aborted.
    #[error("aborted")]
    Aborted,
}

impl Error {
    /// Stable identifier for programs: `{code, message}` is what JavaScript sees.
    pub fn code(&self) -> &'static str {
        match self {
            Error::NotGguf { .. } => "not_gguf",
            Error::GgufVersion { .. } | Error::BigEndianGguf => "gguf_version",
            Error::Truncated { .. } => "truncated_file",
            Error::MalformedGguf { .. } => "malformed_gguf",
            Error::UnsupportedTensorType { .. } | Error::UnsupportedHere { .. } => "unsupported_tensor_type",
            Error::MissingKey { .. } | Error::BadKey { .. } => "bad_metadata",
            Error::SplitFile { .. } => "split_file",
            Error::MissingTensor { .. } | Error::TensorShape { .. } => "bad_tensors",
            Error::UnsupportedModel { .. } => "unsupported_model",
            Error::Tokenizer { .. } => "tokenizer",
            Error::ChatTemplate { .. } => "chat_template",
            Error::InvalidRequest { .. } => "invalid_request",
            Error::Network { .. } => "network",
            Error::HttpStatus { .. } => "http_status",
            Error::BadResponse { .. } => "bad_response",
            Error::DigestMismatch { .. } => "digest_mismatch",
            Error::FileChanged { .. } => "file_changed",
            Error::NotStored { .. } => "not_stored",
            Error::File { .. } => "file",
            Error::Storage { .. } => "storage",
            Error::StorageFull { .. } => "storage_full",
            Error::NoGpu { .. } => "no_webgpu",
            Error::Gpu { .. } => "gpu",
            Error::GpuLost { .. } => "gpu_lost",
            Error::OutOfMemory { .. } => "out_of_memory",
            Error::Threads { .. } => "threads_failed",
            Error::ContextFull { .. } => "context_length_exceeded",
            Error::NonFiniteLogits => "non_finite_logits",
            Error::Aborted => "aborted",
        }
    }
}
