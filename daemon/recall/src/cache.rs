//! The nested cache over the workspace's own tokens: which ones it writes after these.
