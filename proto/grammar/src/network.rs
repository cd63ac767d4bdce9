//! Networks that a tenant's upstream may not be in, unless the deployment allows them.
