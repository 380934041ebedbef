//! The proxy: it reads whom a request is about, and nothing else of it, and passes its bytes to one of the
//! replicas of that user's slot. It keeps no state that another proxy would need.
