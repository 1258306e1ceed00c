//! The store a command works with: a server, or the embedded engine as a child process.

use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::schema::{Retention, Schema};
use crate::sink::{ClickHouse, ConnectionWatch, SinkError, StoreAddress, StoreTarget};
use crate::store::{self, EmbeddedStore, Keeper, StoreRuns};

/// How long the embedded engine may take to start, and to write everything at its end.
const STORE_DEADLINE: Duration = Duration::from_secs(60);

/// The process of an embedded store.
enum Child {
    /// As it is.
    Running(EmbeddedStore),
    /// Started again when it ends.
    Kept(Keeper),
}

/// An open store with the schema applied.
pub struct Store {
    address: StoreAddress,
    /// Ends with this.
    child: Option<Child>,
    /// Hears of the connections of clients.
    watch: Option<Arc<dyn ConnectionWatch>>,
}

impl Store {
    /// Starts the embedded engine if `target` is one, in a new folder if there
    /// is none, and brings the schema up to date.
    ///
    /// # Errors
    /// The engine does not start, or the store cannot be reached or refuses.
    pub fn open(target: &StoreTarget) -> Result<Self, Error> {
        Self::start(target)?.with_schema(None)
    }

    /// As [`Store::open`]; `watch` hears of every connection to the store, and rows are kept as
    /// long as `retention` says.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_watched(
        target: &StoreTarget,
        watch: Arc<dyn ConnectionWatch>,
        retention: Option<Retention>,
    ) -> Result<Self, Error> {
        Self { watch: Some(watch), ..Self::start(target)? }.with_schema(retention)
    }

    fn with_schema(self, retention: Option<Retention>) -> Result<Self, Error> {
        let store = self;
        let schema = store.schema();
        let schema = retention.map_or(schema.clone(), |retention| schema.keeping(retention));
        store.ask(async |client| {
            client.apply_schema(&schema).await?;
            client.check_windows(&schema).await
        })?;
        Ok(store)
    }

    /// The schema of its database.
    pub fn schema(&self) -> Schema {
        Schema::new(&self.address.database, self.child.is_some())
    }

    /// As [`Store::open`], but makes neither a folder nor tables.
    ///
    /// # Errors
    /// There is no embedded store in the folder, or the engine does not start.
    pub fn connect(target: &StoreTarget) -> Result<Self, Error> {
        if let StoreTarget::Embedded(dir) = target {
            store::check_is_store(dir)?;
        }
        Self::start(target)
    }

    /// As [`Store::open`], but makes no tables.
    ///
    /// # Errors
    /// The engine does not start.
    pub fn open_bare(target: &StoreTarget) -> Result<Self, Error> {
        Self::start(target)
    }

    fn start(target: &StoreTarget) -> Result<Self, Error> {
        match target {
            StoreTarget::Server(address) => {
                Ok(Self { address: address.clone(), child: None, watch: None })
            }
            StoreTarget::Embedded(dir) => {
                let executable = std::env::current_exe().map_err(Error::thread)?;
                let child = EmbeddedStore::start(&executable, dir, STORE_DEADLINE)?;
                let user = Some((EmbeddedStore::USER.to_owned(), child.password().to_owned()));
                let address = StoreAddress { user, ..StoreAddress::local(child.url()) };
                Ok(Self { address, child: Some(Child::Running(child)), watch: None })
            }
        }
    }

    /// From now on the embedded engine is started again when its process ends; clients go on
    /// as they are.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn kept_running(mut self) -> Result<Self, Error> {
        if let Some(Child::Running(store)) = self.child.take() {
            self.child = Some(Child::Kept(Keeper::start(store).map_err(Error::thread)?));
        }
        Ok(self)
    }

    /// What became of the process of the embedded engine; none for another store.
    pub fn runs(&self) -> Option<Arc<StoreRuns>> {
        match &self.child {
            Some(Child::Kept(keeper)) => Some(keeper.runs()),
            Some(Child::Running(_)) | None => None,
        }
    }

    /// Where it is, without a password.
    pub fn address(&self) -> &StoreAddress {
        &self.address
    }

    /// A client with connections of its own, for another thread.
    pub fn new_client(&self) -> ClickHouse {
        ClickHouse::watched(self.address.clone(), self.watch.clone())
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// What the store answers, or that the system refuses a runtime.
    pub fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&ClickHouse) -> Result<T, SinkError>,
    ) -> Result<T, Error> {
        self.work(question)
    }

    /// Works with the store and waits for the end.
    ///
    /// # Errors
    /// Those of the work, or that the system refuses a runtime.
    pub fn work<T, E: Into<Error>>(
        &self,
        work: impl AsyncFnOnce(&ClickHouse) -> Result<T, E>,
    ) -> Result<T, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let client = self.new_client();
        runtime.map_err(Error::thread)?.block_on(work(&client)).map_err(Into::into)
    }

    /// Ends the embedded engine, if there is one, with everything on disk.
    ///
    /// # Errors
    /// The child did not end well.
    pub fn close(self) -> Result<(), Error> {
        match self.child {
            Some(Child::Running(store)) => Ok(store.stop(STORE_DEADLINE)?),
            Some(Child::Kept(keeper)) => Ok(keeper.stop(STORE_DEADLINE)?),
            None => Ok(()),
        }
    }
}
