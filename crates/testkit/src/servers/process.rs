//! A child process that cannot outlive its test.
//!
//! - It leads its own process group, and every signal goes to the whole group.
//! - Dropping the guard kills and reaps it, also when the test panics; then the end of its
//!   output is printed.
//! - When the test process itself is killed, the kernel kills the child (Linux). For that the
//!   child belongs to a thread that lives as long as the process.
//! - A guard may be kept in a static, shared by tests, and dropped by nobody: it is cleared away
//!   when the process ends.
//! - Its number is never signalled after it was reaped.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{leavings, signals};

/// Between two looks at something that cannot be waited for.
const POLL: Duration = Duration::from_millis(10);

/// How long a signal may take to have its effect; on a busy machine too.
const SIGNAL_DEADLINE: Duration = Duration::from_secs(20);

/// How much of its output is shown when something went wrong.
const TAIL_LINES: usize = 60;

/// What to run: a program, its arguments and environment, and a directory of its own.
#[derive(Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    directory: Option<PathBuf>,
    stdin: bool,
    home: TempDir,
}

impl Launch {
    /// Runs `program`, without arguments so far.
    pub fn new(program: impl AsRef<Path>) -> Self {
        let home = tempfile::Builder::new().prefix("testkit-").tempdir().expect("a temporary directory can be made");
        leavings::remove_at_exit(home.path());
        Self {
            program: program.as_ref().to_path_buf(),
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
            stdin: false,
            home,
        }
    }

    /// A directory that lives as long as the process: for its data and configuration.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable; the others are inherited.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Sets variables.
    #[must_use]
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        vars.into_iter().fold(self, |launch, (name, value)| launch.env(name, value))
    }

    /// Does not inherit a variable.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_path_buf());
        self
    }

    /// Gives the process a pipe to read from; see [`Process::write_stdin`].
    #[must_use]
    pub fn with_stdin(mut self) -> Self {
        self.stdin = true;
        self
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("output.log")
    }

    fn spawn(&self) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(self.log()).expect("the log can be opened");
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdout(log.try_clone().expect("a handle can be doubled")).stderr(log);
        command.stdin(if self.stdin { Stdio::piped() } else { Stdio::null() });
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        signals::bind_to_parent(&mut command);
        on_spawner(move || command.spawn())
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.program.display()))
    }
}

/// Does something on the one thread that lives as long as the process.
fn on_spawner<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    type Job = Box<dyn FnOnce() + Send>;
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("testkit-spawner".into())
            .spawn(move || queue.iter().for_each(|job| job()))
            .expect("a thread can be started");
        Mutex::new(jobs)
    });
    let (answer, answered) = mpsc::channel();
    let job: Job = Box::new(move || answer.send(work()).expect("the caller waits"));
    lock(spawner).send(job).expect("the spawner lives");
    answered.recv().expect("the spawner answers")
}

/// How and when a process ended.
#[derive(Clone, Copy, Debug)]
pub struct Exited {
    /// Its status.
    pub status: ExitStatus,
    /// When it was noticed, which is at once.
    pub at: Instant,
}

impl Exited {
    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// A running (or ended) child process; see the module.
#[derive(Debug)]
pub struct Process {
    launch: Launch,
    run: Mutex<Arc<Run>>,
}

/// One run of the program, from start to end.
#[derive(Debug)]
pub(super) struct Run {
    pid: u32,
    stdin: Mutex<Option<ChildStdin>>,
    /// Set, under the lock, by whoever reaped the process. While it is `None` the pid is ours.
    exited: Mutex<Option<Exited>>,
    ended: Condvar,
}

impl Run {
    fn begin(mut child: Child) -> Arc<Self> {
        let run = Arc::new(Self {
            pid: child.id(),
            stdin: Mutex::new(child.stdin.take()),
            exited: Mutex::new(None),
            ended: Condvar::new(),
        });
        leavings::kill_at_exit(&run);
        let watched = Arc::clone(&run);
        std::thread::Builder::new()
            .name(format!("testkit-wait-{}", run.pid))
            .spawn(move || {
                signals::wait_until_ended(watched.pid).expect("a child can be waited for");
                let at = Instant::now();
                let mut exited = lock(&watched.exited);
                let status = child.wait().expect("an ended child can be reaped");
                *exited = Some(Exited { status, at });
                drop(exited);
                watched.ended.notify_all();
            })
            .expect("a thread can be started");
        run
    }

    /// Signals the group, unless the process is gone.
    pub(super) fn signal(&self, signal: i32) {
        self.send(signal, signals::signal_group);
    }

    fn send(&self, signal: i32, send: impl Fn(u32, i32) -> std::io::Result<()>) {
        let exited = lock(&self.exited);
        if exited.is_some() {
            return;
        }
        match send(self.pid, signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                panic!("cannot send signal {signal} to {}: {error}", self.pid)
            }
            // ESRCH: it has ended this instant and is about to be reaped.
            _ => {}
        }
    }

    pub(super) fn wait(&self, within: Duration) -> Option<Exited> {
        let exited = lock(&self.exited);
        *self
            .ended
            .wait_timeout_while(exited, within, |exited| exited.is_none())
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

impl Process {
    /// Starts the program. It may not be ready yet: see [`Process::wait_until`].
    pub fn start(launch: Launch) -> Self {
        let run = Run::begin(launch.spawn());
        Self { launch, run: Mutex::new(run) }
    }

    /// Starts a server that listens on a TCP port, and returns when `ready` says so. If it ends
    /// before that, it is tried again on another port, twice.
    pub fn serve(
        launch: impl Fn(&super::Port) -> Launch,
        within: Duration,
        ready: impl Fn(&super::Port) -> bool,
    ) -> (Self, super::Port) {
        let mut attempts = 3;
        loop {
            attempts -= 1;
            let port = super::Port::reserve();
            let process = Self::start(launch(&port));
            match process.poll_until(within, || ready(&port)) {
                Ok(()) => return (process, port),
                Err(_) if attempts > 0 && process.exited().is_some() => {}
                Err(why) => process.fail(&format!("was not ready on {}: {why}", port.address())),
            }
        }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.run().pid
    }

    /// The directory of its own, with its output; lives as long as the guard.
    pub fn home(&self) -> &Path {
        self.launch.home()
    }

    /// The file with everything it wrote to stdout and stderr, over all its runs.
    pub fn log(&self) -> PathBuf {
        self.launch.log()
    }

    /// The last lines of its output.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// How it ended; `None` while it runs.
    pub fn exited(&self) -> Option<Exited> {
        *lock(&self.run().exited)
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&self, within: Duration) -> Exited {
        self.run().wait(within).unwrap_or_else(|| self.fail(&format!("did not end within {within:?}")))
    }

    /// Waits until `condition` holds. Panics if the process ends before that.
    pub fn wait_until(&self, what: &str, within: Duration, condition: impl FnMut() -> bool) {
        if let Err(why) = self.poll_until(within, condition) {
            self.fail(&format!("waited for {what}: {why}"));
        }
    }

    fn poll_until(&self, within: Duration, mut condition: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + within;
        loop {
            if condition() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("not within {within:?}"));
            }
            if let Some(exited) = self.run().wait(POLL) {
                return Err(format!("it has ended: {}", exited.status));
            }
        }
    }

    /// Sends a signal to it and its children.
    pub fn signal(&self, signal: i32) {
        self.run().signal(signal);
    }

    /// Ends it with SIGKILL and waits until it is gone. Nothing happens if it has ended.
    pub fn kill(&self) -> Exited {
        let run = self.run();
        run.signal(libc::SIGKILL);
        run.wait(SIGNAL_DEADLINE).unwrap_or_else(|| self.fail("survives SIGKILL"))
    }

    /// Asks it to end with SIGTERM and waits until it has. A frozen process is thawed.
    pub fn stop(&self, within: Duration) -> Exited {
        let run = self.run();
        run.signal(libc::SIGTERM);
        run.signal(libc::SIGCONT);
        run.wait(within).unwrap_or_else(|| self.fail(&format!("did not end within {within:?} after SIGTERM")))
    }

    /// Stops it from running (SIGSTOP), and returns when it stands still.
    pub fn freeze(&self) {
        let run = self.run();
        // Alone at first: a process that is just starting another one by vfork stops only when
        // that one has come as far as exec, so that one must run.
        run.send(libc::SIGSTOP, signals::signal_alone);
        self.wait_until("it to stand still", SIGNAL_DEADLINE, || {
            signals::has_stopped(run.pid).expect("a child can be asked")
        });
        run.signal(libc::SIGSTOP);
    }

    /// Lets a frozen process run on.
    pub fn thaw(&self) {
        self.run().signal(libc::SIGCONT);
    }

    /// Starts the program again, with the same arguments, home and port; ends it with SIGKILL
    /// first if it runs. It may not be ready yet.
    pub fn restart(&self) {
        self.kill();
        *lock(&self.run) = Run::begin(self.launch.spawn());
    }

    /// Writes to its standard input. Panics without [`Launch::with_stdin`]; a process that has
    /// closed it is none the wiser.
    pub fn write_stdin(&self, bytes: &[u8]) {
        let run = self.run();
        let mut stdin = lock(&run.stdin);
        let pipe = stdin.as_mut().expect("the process was launched with a standard input");
        match pipe.write_all(bytes).and_then(|()| pipe.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => self.fail(&format!("stdin: {error}")),
            _ => {}
        }
    }

    fn run(&self) -> Arc<Run> {
        Arc::clone(&lock(&self.run))
    }

    fn name(&self) -> String {
        self.launch.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Panics with what is known.
    pub(crate) fn fail(&self, why: &str) -> ! {
        panic!("{} ({}) {why}", self.name(), self.pid()); // Drop prints the log
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let run = self.run();
        run.signal(libc::SIGKILL);
        let gone = run.wait(SIGNAL_DEADLINE).is_some();
        if std::thread::panicking() {
            eprintln!("--- the last output of {} ({})\n{}\n---", self.name(), run.pid, self.log_tail());
        } else {
            assert!(gone, "{} ({}) survives SIGKILL", self.name(), run.pid);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Finds a program: in the variable `var`, else among the installed tools, else in `PATH`.
/// Panics with what to do if there is none.
pub(crate) fn find_program(var: &str, in_tools: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(var) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{var} names {}, which is no file", path.display());
        return path;
    }
    let installed = crate::settings::Settings::get().tools.join(in_tools);
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::iter::once(installed).chain(std::env::split_paths(&in_path).map(|entry| entry.join(name)));
    candidates
        .into_iter()
        .find(|path| File::open(path).is_ok_and(|file| file.metadata().is_ok_and(|data| data.is_file())))
        .unwrap_or_else(|| panic!("{name} is not there: run scripts/test, or scripts/install-test-tools once"))
}
