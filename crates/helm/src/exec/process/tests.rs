use std::{path::Path, time::Instant};

use super::*;

const LONG: Duration = Duration::from_mins(1);

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    command
}

fn alive(pid: &str) -> bool {
    // A zombie is not alive: its state follows the closing parenthesis of its name.
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn pid_in(file: &Path) -> String {
    let read = || std::fs::read_to_string(file).unwrap_or_default();
    until("the child writes its pid", || read().ends_with('\n')).await;
    read()
}

/// A child that writes its pid to `file` and then sleeps for long.
fn sleeper(file: &Path) -> Command {
    shell(&format!("echo $$ > {}; exec sleep 600", file.display()))
}

#[tokio::test]
async fn output_and_exit_code_come_back() {
    let runner = Runner::new(1).unwrap();
    let finished = runner
        .run(shell("echo out; echo err >&2; exit 3"), LONG, ())
        .await
        .unwrap();
    assert_eq!(
        (
            finished.ended,
            finished.stdout.as_str(),
            finished.stderr.as_str()
        ),
        (Ended::Code(3), "out\n", "err\n")
    );
    let finished = runner.run(shell("kill -9 $$"), LONG, ()).await.unwrap();
    assert_eq!(finished.ended, Ended::Signal(9));
}

#[tokio::test]
async fn a_slow_child_gets_sigterm_first() {
    let runner = Runner::new(1).unwrap();
    let script = "trap 'echo ended well; exit 0' TERM; while :; do sleep 0.05; done";
    let finished = runner
        .run(shell(script), Duration::from_millis(300), ())
        .await
        .unwrap();
    assert_eq!(
        (finished.ended, finished.stdout.as_str()),
        (Ended::TimedOut, "ended well\n")
    );
}

#[tokio::test]
async fn no_more_children_than_allowed_run_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let runner = Arc::new(Runner::new(2).unwrap());
    // Each child counts how many are inside while it is.
    let script = format!(
        "cd {}; touch in.$$; ls | grep -c in. ; sleep 0.1; rm in.$$",
        dir.path().display()
    );
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let (runner, command) = (Arc::clone(&runner), shell(&script));
            tokio::spawn(async move {
                runner
                    .run(command, LONG, ())
                    .await
                    .unwrap()
                    .stdout
                    .trim()
                    .parse::<usize>()
                    .unwrap()
            })
        })
        .collect();
    let mut most = 0;
    for run in runs {
        most = most.max(run.await.unwrap());
    }
    assert_eq!(most, 2);
}

#[tokio::test]
async fn a_dropped_call_kills_the_child_and_its_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let kept = tempfile::NamedTempFile::new().unwrap();
    let kept_path = kept.path().to_owned();
    let runner = Runner::new(1).unwrap();
    let pid = tokio::select! {
        _ = runner.run(sleeper(&file), LONG, kept) => panic!("it sleeps"),
        pid = pid_in(&file) => pid,
    };
    until("the child is dead", || !alive(&pid)).await;
    until("its files are gone", || !kept_path.exists()).await;
    // Its place is free again.
    assert_eq!(
        runner.run(shell("true"), LONG, ()).await.unwrap().ended,
        Ended::Code(0)
    );
}

#[tokio::test]
async fn kill_all_returns_when_all_are_dead_and_refuses_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let runner = Arc::new(Runner::new(3).unwrap());
    let mut pids = Vec::new();
    let mut runs = Vec::new();
    for index in 0..3 {
        let file = dir.path().join(index.to_string());
        let (runner, command) = (Arc::clone(&runner), sleeper(&file));
        runs.push(tokio::spawn(
            async move { runner.run(command, LONG, ()).await },
        ));
        pids.push(pid_in(&file).await);
    }
    runner.kill_all().await;
    assert!(
        pids.iter().all(|pid| !alive(pid)),
        "all are reaped when kill_all returns"
    );
    for run in runs {
        assert!(matches!(run.await.unwrap(), Err(Error::ShutDown)));
    }
    assert!(matches!(
        runner.run(shell("true"), LONG, ()).await,
        Err(Error::ShutDown)
    ));
}

/// The process that [`children_die_with_a_killed_parent`] kills; alone it does nothing.
#[tokio::test]
async fn parent_to_be_killed() {
    let Some(file) = std::env::var_os("KUBEBYON_TEST_PID_FILE") else {
        return;
    };
    let _ = Runner::new(1)
        .unwrap()
        .run(sleeper(Path::new(&file)), LONG, ())
        .await;
}

#[tokio::test]
async fn children_die_with_a_killed_parent() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut parent = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "exec::process::tests::parent_to_be_killed"])
        .env("KUBEBYON_TEST_PID_FILE", &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = pid_in(&file).await;
    assert!(alive(&pid));
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the child is dead", || !alive(&pid)).await;
}
