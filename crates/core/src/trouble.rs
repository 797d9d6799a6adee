//! What can go wrong with a request, as far as a decision depends on it.

/// How a request failed. The words for people stay with whoever made the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The store is away, slow, throttling or broken; whether the request took effect is
    /// unknown. Waiting helps.
    Outage,
    /// The store refuses for a reason that an operator must mend (credentials, policy, a
    /// missing bucket). The request had no effect. It is tried again, slowly.
    Denied,
    /// The upload is completed, aborted or expired.
    NoSuchUpload,
    /// The store does not accept the list of parts, or the bytes that arrived are not those
    /// that were announced. The request had no effect.
    InvalidPart,
    /// The store has a part of this number already and does not replace it, or does not know the
    /// request at all. It had no effect.
    NotReplaced,
    /// The store refuses this object for good.
    Refused,
    /// The file changed or shrank while it was read. The request had no effect.
    SourceChanged,
    /// The file cannot be read any more.
    SourceUnreadable,
}
