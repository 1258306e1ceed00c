//! The store a command works with: servers, or the embedded engine as a child process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Error;
use crate::schema::{Retention, Schema};
use crate::sink::{
    Access, AccessConfig, ClickHouse, ConnectionWatch, Endpoints, Placement, Prober, Replicas,
    Secret, Servers, SinkError, StoreAddress, StoreTarget, Target,
};
use crate::store::{self, EmbeddedStore, Keeper, StoreRuns};

/// How long the embedded engine may take to start, and to write everything at its end.
const STORE_DEADLINE: Duration = Duration::from_secs(60);

/// How a store is opened.
#[derive(Clone, Default)]
pub struct Opening<'a> {
    /// How it is reached.
    pub access: AccessConfig,
    /// Who asks: decides which shard is the home of its rows.
    pub exporter: &'a str,
    /// Which shard gets a batch.
    pub placement: Placement,
    /// Hears of every connection to the store.
    pub watch: Option<Arc<dyn ConnectionWatch>>,
    /// How long rows are kept; as the tables have it, if it is not said.
    pub retention: Option<Retention>,
    /// A store that is away is prepared when it comes: what is for it can wait meanwhile.
    pub patient: bool,
    /// The cluster of replicated tables and tables over all shards.
    pub cluster: Option<&'a str>,
}

/// The process of an embedded store.
enum Child {
    /// As it is.
    Running(EmbeddedStore),
    /// Started again when it ends.
    Kept(Keeper),
}

/// An open store with the schema applied.
pub struct Store {
    endpoints: Endpoints,
    schema: Schema,
    /// Ends with this.
    child: Option<Child>,
    /// Only where there is more than one server. Held for its end.
    prober: Option<Prober>,
}

/// What a server needs before it gets rows.
struct Prepare {
    schema: Schema,
    replicas: Replicas,
}

impl Prepare {
    async fn target(&self, target: &Target) -> Result<(), SinkError> {
        target.client.apply_schema(&self.schema).await?;
        target.client.check_windows(&self.schema).await?;
        self.replicas.check(target).await
    }
}

impl Store {
    /// Starts the embedded engine if `target` is one, in a new folder if there
    /// is none, and brings the schema up to date. Of several servers one of each shard has to
    /// be there, unless the opening is patient.
    ///
    /// # Errors
    /// The engine does not start, a file cannot be used, or the store cannot be reached or
    /// refuses.
    pub fn open(target: &StoreTarget, opening: &Opening<'_>) -> Result<Self, Error> {
        let mut store = Self::start(target, opening)?;
        let schema = store.schema.clone();
        let prepared = Prepare { schema, replicas: Replicas::default() };
        let mut unprepared = Vec::new();
        for shard in 0..store.endpoints.shards() {
            match store.prepare(shard, &prepared)? {
                Some(error) if opening.patient && error.is_absence() => {
                    unprepared.push(shard);
                    tracing::warn!("{error} (going on without it: flows wait in the spool)");
                }
                Some(error) => return Err(error.into()),
                None => {}
            }
        }
        if !unprepared.is_empty() || store.endpoints.count() > 1 {
            let endpoints = store.endpoints.with_own_connections();
            let prepare = async move |target: &Target| prepared.target(target).await;
            store.prober =
                Some(Prober::start(endpoints, unprepared, prepare).map_err(Error::thread)?);
        }
        Ok(store)
    }

    /// Prepares each server of one shard that answers; why not, if none does.
    fn prepare(&self, shard: usize, prepare: &Prepare) -> Result<Option<SinkError>, Error> {
        let mut last = None;
        let mut prepared = false;
        let targets = || self.endpoints.all().filter(|target| target.shard() == shard);
        for target in targets() {
            let outcome = run(prepare.target(&target))?;
            self.endpoints.report(&target, outcome.as_ref().copied(), Instant::now());
            match outcome {
                Ok(()) => prepared = true,
                Err(error) if error.is_transient() => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(last.filter(|_| !prepared))
    }

    /// As [`Store::open`], but makes neither a folder nor tables.
    ///
    /// # Errors
    /// There is no embedded store in the folder, or the engine does not start.
    pub fn connect(target: &StoreTarget, opening: &Opening<'_>) -> Result<Self, Error> {
        if let StoreTarget::Embedded(dir) = target {
            store::check_is_store(dir)?;
        }
        Self::start(target, opening)
    }

    /// As [`Store::open`], but makes no tables.
    ///
    /// # Errors
    /// The engine does not start.
    pub fn open_bare(target: &StoreTarget, opening: &Opening<'_>) -> Result<Self, Error> {
        Self::start(target, opening)
    }

    fn start(target: &StoreTarget, opening: &Opening<'_>) -> Result<Self, Error> {
        let (servers, child) = match target {
            StoreTarget::Servers(servers) => (servers.clone(), None),
            StoreTarget::Embedded(dir) => {
                let executable = std::env::current_exe().map_err(Error::thread)?;
                let child = EmbeddedStore::start(&executable, dir, STORE_DEADLINE)?;
                let password = Secret::new(child.password().to_owned());
                let user = Some((EmbeddedStore::USER.to_owned(), password));
                let address = StoreAddress { user, ..StoreAddress::local(child.url()) };
                (Servers::one(address), Some(Child::Running(child)))
            }
        };
        let access = Access::open(&opening.access, &servers, opening.watch.clone())?;
        let endpoints = Endpoints::new(servers, access, opening.exporter, opening.placement);
        let mut schema = Schema::new(&endpoints.address().database, child.is_some());
        if let Some(retention) = opening.retention {
            schema = schema.keeping(retention);
        }
        if let Some(cluster) = opening.cluster {
            schema = schema.on_cluster(cluster);
        }
        Ok(Self { endpoints, schema, child, prober: None })
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

    /// Its tables.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Where its first server is, without a password.
    pub fn address(&self) -> &StoreAddress {
        self.endpoints.address()
    }

    /// Its servers, with connections of their own, for another thread.
    pub fn endpoints(&self) -> Endpoints {
        self.endpoints.with_own_connections()
    }

    /// Asks one of its servers and waits for the answer; another one if it does not answer.
    ///
    /// # Errors
    /// What the store answers, or that the system refuses a runtime.
    pub fn ask<T>(
        &self,
        mut question: impl AsyncFnMut(&ClickHouse) -> Result<T, SinkError>,
    ) -> Result<T, Error> {
        let endpoints = self.endpoints();
        run(async {
            let mut tries = endpoints.count();
            loop {
                let target = endpoints.choose(Instant::now());
                let answer = question(&target.client).await;
                endpoints.report(&target, answer.as_ref().map(|_| ()), Instant::now());
                tries -= 1;
                match answer {
                    Err(error) if error.was_never_sent() && tries > 0 => {}
                    answer => return answer,
                }
            }
        })?
        .map_err(Into::into)
    }

    /// Works with the first of its servers and waits for the end.
    ///
    /// # Errors
    /// Those of the work, or that the system refuses a runtime.
    pub fn work<T, E: Into<Error>>(
        &self,
        work: impl AsyncFnOnce(&ClickHouse) -> Result<T, E>,
    ) -> Result<T, Error> {
        let target = self.endpoints().choose(Instant::now());
        run(work(&target.client))?.map_err(Into::into)
    }

    /// Ends the embedded engine, if there is one, with everything on disk.
    ///
    /// # Errors
    /// The child did not end well.
    pub fn close(self) -> Result<(), Error> {
        drop(self.prober);
        match self.child {
            Some(Child::Running(store)) => Ok(store.stop(STORE_DEADLINE)?),
            Some(Child::Kept(keeper)) => Ok(keeper.stop(STORE_DEADLINE)?),
            None => Ok(()),
        }
    }
}

/// Waits for it on a runtime of its own.
fn run<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(Error::thread)?.block_on(work))
}
