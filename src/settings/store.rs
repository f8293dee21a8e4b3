//! Settings of stores that several roles have: how S3 is reached, and what goes with HTTP requests.

/// How S3 is reached, for the section of the file that a role reads.
macro_rules! s3 {
    ($section:literal) => {
        &[
            setting(
                "s3-endpoint",
                concat!($section, ".s3.endpoint"),
                Kind::One("URL"),
                "$AWS_ENDPOINT_URL, else Amazon's",
                "Address of a store that speaks S3, with http:// or https://",
            ),
            setting("s3-region", concat!($section, ".s3.region"), Kind::One("NAME"), "$AWS_REGION, else us-east-1", "Region"),
            setting(
                "s3-path-style",
                concat!($section, ".s3.path_style"),
                Kind::Switch,
                "true with an endpoint",
                "The bucket stands in the path, not in the host name",
            ),
            setting(
                "s3-create-bucket",
                concat!($section, ".s3.create_bucket"),
                Kind::Switch,
                "false",
                "A bucket that is missing is made",
            ),
            setting(
                "s3-ca-file",
                concat!($section, ".s3.ca_file"),
                Kind::One("PATH"),
                "",
                "Certificates (PEM) that the store is trusted by, besides the system's",
            ),
            setting(
                "",
                concat!($section, ".s3.access_key"),
                Kind::One("TEXT"),
                "$AWS_ACCESS_KEY_ID, a web identity, the machine's role",
                "Access key; no flag, because command lines are public",
            )
            .env(&["MINIO_ACCESS_KEY_ID"]),
            setting(
                "",
                concat!($section, ".s3.secret_key"),
                Kind::One("TEXT"),
                "$AWS_SECRET_ACCESS_KEY",
                "Its secret; never shown",
            )
            .env(&["MINIO_SECRET_ACCESS_KEY"]),
            setting(
                "",
                concat!($section, ".headers"),
                Kind::Many("NAME: VALUE"),
                "",
                "Header fields that go with every request to a place that is a URL, for instance an authorization; never shown",
            ),
        ]
    };
}

pub(super) use s3;
