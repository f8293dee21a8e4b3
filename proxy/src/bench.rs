//! Parts of the inside, for micro-benchmarks, fuzz targets and tests of the allocator. They change without notice.

pub mod setup;

pub mod control {
    //! See the module of this name.
    pub use crate::control::*;
}
pub mod exchange {
    //! See the module of this name.
    pub use crate::exchange::*;
}
pub mod grpc {
    //! See the module of this name.
    pub use crate::grpc::*;
}
pub mod headers {
    //! See the module of this name.
    pub use crate::headers::*;
}
pub mod http {
    //! See the module of this name.
    pub use crate::http::*;
}
pub mod http2 {
    //! See the module of this name.
    pub use crate::http2::*;
}
pub mod owed {
    //! See the module of this name.
    pub use crate::owed::*;
}
pub mod report {
    //! See the module of this name.
    pub use crate::report::*;
}
pub mod table {
    //! See the module of this name.
    pub use crate::table::*;
}
