//! Parameters of statements.

use tokio_postgres::types::{ToSql, Type};

/// A value that knows its SQL type. So a statement need not be prepared to learn the types from the server: a prepared
/// statement belongs to one session, and behind a pooler the next transaction may be in another one.
pub(super) trait SqlValue: ToSql + Sync {
    /// Its type on the server.
    fn kind(&self) -> Type;
}

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a dyn SqlValue;

macro_rules! values {
    ($($of:ty => $kind:ident, $list:ident;)*) => {$(
        impl SqlValue for $of {
            fn kind(&self) -> Type {
                Type::$kind
            }
        }
        impl SqlValue for Option<$of> {
            fn kind(&self) -> Type {
                Type::$kind
            }
        }
        impl SqlValue for Vec<$of> {
            fn kind(&self) -> Type {
                Type::$list
            }
        }
        impl SqlValue for Vec<Option<$of>> {
            fn kind(&self) -> Type {
                Type::$list
            }
        }
    )*};
}

values! {
    bool => BOOL, BOOL_ARRAY;
    i16 => INT2, INT2_ARRAY;
    i32 => INT4, INT4_ARRAY;
    i64 => INT8, INT8_ARRAY;
    &str => TEXT, TEXT_ARRAY;
    String => TEXT, TEXT_ARRAY;
    Vec<u8> => BYTEA, BYTEA_ARRAY;
}

impl SqlValue for &[&str] {
    fn kind(&self) -> Type {
        Type::TEXT_ARRAY
    }
}

/// Parameters with their types, as they are sent.
pub(super) fn typed<'a>(parameters: &[Parameter<'a>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    parameters.iter().map(|&value| -> (&'a (dyn ToSql + Sync), Type) { (value, value.kind()) }).collect()
}
