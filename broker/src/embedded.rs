//! The embedded engine: every port in one SQLite file.
