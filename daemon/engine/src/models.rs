//! The architectures. One file each, or one for a family.

pub(crate) mod gqa;
