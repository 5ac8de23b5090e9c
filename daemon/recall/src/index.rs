//! The index of the workspace's files: which pieces of them help to understand the place of the cursor.
