//! What Redis refuses: each refusal is told as what it is, with what an operator can do, and the
//! same store goes on when it is mended. On every version, because each has its own words.

use std::time::Instant;

use reeltime_core::{State, StreamRecord};
use testkit::servers::{Redis, RedisCluster, RedisOptions, RedisProgram};

use crate::book::Book;
use crate::common::{moved, record};
use crate::{DEADLINE, Store, eventually, note, open, outage, unusable};

macro_rules! on_each_version {
    ($($name:ident)+) => {
        on_each_version!(@on installed Installed: $($name)+);
        on_each_version!(@on redis_6_2 Redis62: $($name)+);
        on_each_version!(@on redis_8 Redis8: $($name)+);
        on_each_version!(@on valkey Valkey: $($name)+);
    };
    (@on $version:ident $program:ident: $($name:ident)+) => {
        mod $version {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if let Some(program) = testkit::servers::RedisProgram::$program.or_skip() {
                        super::$name(program).await;
                    }
                }
            )+
        }
    };
}

on_each_version! {
    a_full_redis_is_an_outage_until_it_has_room
    a_redis_that_cannot_save_is_an_outage_until_it_can
    a_replica_is_an_outage_until_it_is_a_master
    too_few_replicas_are_an_outage_until_they_are_back
    a_redis_with_too_many_clients_is_an_outage_until_some_leave
    a_login_that_is_missing_or_wrong_is_named_until_it_is_right
    a_user_who_may_too_little_is_named_until_he_may
    a_user_with_other_keys_is_named_until_they_are_his
    a_key_of_another_type_is_named_until_it_is_gone
    what_was_changed_by_hand_is_named_until_it_is_gone
    a_redis_without_scripts_or_without_that_database_is_refused
}

fn options(program: RedisProgram) -> RedisOptions {
    RedisOptions { program, ..RedisOptions::default() }
}

/// A server with a stream that has a part.
async fn begun(options: &RedisOptions) -> (Redis, Store) {
    let redis = Redis::start_with(options);
    let store = open(&redis.url()).await;
    store.create(&record(1)).await.unwrap();
    note(&store, &record(1), 1).await.unwrap();
    (redis, store)
}

/// Every write is an outage that says all of this; nothing was changed, and what can be read is.
async fn writes_are_outages(redis: &Redis, store: &Store, says: &[&str]) {
    let before = Book::of(redis).snapshot();
    let pending = moved(&record(1), State::PendingCompletion);
    for said in [
        outage(note(store, &record(1), 2).await),
        outage(store.create(&record(2)).await),
        outage(store.transition(State::Active, &pending).await),
    ] {
        assert!(says.iter().all(|text| said.contains(text)), "{says:?} in: {said}");
    }
    assert_eq!(Book::of(redis).snapshot(), before);
    assert_eq!(store.load().await.unwrap(), [record(1)]);
}

/// Everything works.
async fn works(redis: &Redis, store: &Store) {
    eventually("a part to be noted", async || note(store, &record(1), 2).await).await;
    store.create(&record(2)).await.unwrap();
    store.transition(State::Active, &moved(&record(1), State::PendingCompletion)).await.unwrap();
    let book = Book::of(redis);
    assert_eq!(book.state(record(1).id).as_deref(), Some("pending_completion"));
    assert_eq!((book.state(record(2).id).as_deref(), book.parts(record(1).id).len()), (Some("active"), 2));
}

/// After a refusal that ends the connection.
async fn reconnected(store: &Store) {
    eventually("the store to reconnect", async || store.load().await).await;
}

/// The number of the store's connection, as the server counts.
fn connection_of(redis: &Redis) -> u64 {
    let text = redis.client().command(&["CLIENT", "LIST", "TYPE", "normal"]).text();
    let others = text.lines().filter(|line| !line.contains(" cmd=client"));
    let numbers = others.map(|line| line.split(' ').next().unwrap().strip_prefix("id=").unwrap().parse().unwrap());
    numbers.max().expect("the store is connected")
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(std::time::Duration::from_millis(10)); // between two looks
    }
}

async fn a_full_redis_is_an_outage_until_it_has_room(program: RedisProgram) {
    let (redis, store) = begun(&options(program)).await;
    redis.client().config_set("maxmemory", "1");
    writes_are_outages(&redis, &store, &["maxmemory", "by itself"]).await;
    redis.client().config_set("maxmemory", "0");
    works(&redis, &store).await;
}

async fn a_redis_that_cannot_save_is_an_outage_until_it_can(program: RedisProgram) {
    let (redis, store) = begun(&options(program)).await;
    let in_the_way = redis.process().home().join("dump.rdb");
    std::fs::create_dir_all(in_the_way.join("full")).unwrap();
    redis.client().config_set("save", "3600 1");
    redis.client().command(&["BGSAVE"]);
    let saved = |how: &str| redis.client().info("rdb_last_bgsave_status").as_deref() == Some(how);
    wait_until("the saving to fail", || saved("err"));
    writes_are_outages(&redis, &store, &["MISCONF", "log of Redis"]).await;
    std::fs::remove_dir_all(&in_the_way).unwrap();
    redis.client().command(&["BGSAVE"]);
    wait_until("the saving to succeed", || saved("ok"));
    works(&redis, &store).await;
}

async fn a_replica_is_an_outage_until_it_is_a_master(program: RedisProgram) {
    let master = Redis::start_with(&options(program));
    let old = StreamRecord { epoch: 2, ..record(1) };
    open(&master.url()).await.create(&old).await.unwrap();
    let (redis, store) = begun(&options(program)).await;
    redis.client().command(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let follows = || redis.client().info("master_link_status").as_deref() == Some("up");
    wait_until("the replica to follow", follows);
    reconnected(&store).await;
    let first = connection_of(&redis);
    // What it has is not believed: it may be old, as that of stream 1 is, or not there yet, as
    // that of stream 2 is.
    for number in [1, 2] {
        let one = record(number);
        for answer in [
            note(&store, &one, 2).await,
            {
                reconnected(&store).await;
                store.create(&one).await
            },
            {
                reconnected(&store).await;
                store.transition(State::Active, &moved(&one, State::Completed)).await
            },
            {
                reconnected(&store).await;
                store.transition(State::Failed, &old).await // as if repeated
            },
            {
                reconnected(&store).await;
                store.forget(one.id, one.epoch).await
            },
        ] {
            let said = outage(answer);
            assert!(said.contains("is a replica"), "{said}");
        }
        reconnected(&store).await;
    }
    assert!(connection_of(&redis) > first, "the master may be elsewhere by now, so it connects anew");
    assert_eq!(Book::of(&redis).keys().len(), 4, "it has what its master has");
    redis.client().command(&["REPLICAOF", "NO", "ONE"]);
    redis.client().flush_all();
    eventually("the new master to be written to", async || store.create(&record(1)).await).await;
    note(&store, &record(1), 1).await.unwrap();
    works(&redis, &store).await;
}

async fn too_few_replicas_are_an_outage_until_they_are_back(program: RedisProgram) {
    if program == RedisProgram::Redis62 {
        return; // it does not count them for scripts
    }
    let (redis, store) = begun(&options(program)).await;
    redis.client().config_set("min-replicas-to-write", "1");
    writes_are_outages(&redis, &store, &["NOREPLICAS"]).await;
    redis.client().config_set("min-replicas-to-write", "0");
    works(&redis, &store).await;
}

async fn a_redis_with_too_many_clients_is_an_outage_until_some_leave(program: RedisProgram) {
    let redis = Redis::start_with(&options(program));
    let admin = redis.client();
    let taken = std::net::TcpStream::connect(redis.address()).unwrap();
    wait_until("the other client", || admin.info("connected_clients").as_deref() == Some("2"));
    admin.config_set("maxclients", "1");
    let store = open(&redis.url()).await;
    // It says why and hangs up, and the one may overtake the other.
    let said = outage(store.load().await);
    assert!(said.contains("max number of clients reached") || said.contains("see its log"), "{said}");
    drop(taken);
    eventually("there to be room", async || store.create(&record(1)).await).await;
    note(&store, &record(1), 1).await.unwrap();
    let alone = Book::of(&redis); // which needs room, too
    drop(store);
    wait_until("the store to leave", || {
        admin
            .try_command(&["CONFIG", "SET", "maxclients", "100"])
            .is_ok_and(|reply| reply == testkit::servers::Reply::Text(b"OK".to_vec()))
    });
    assert_eq!(alone.parts(record(1).id).len(), 1);
}

async fn a_login_that_is_missing_or_wrong_is_named_until_it_is_right(program: RedisProgram) {
    let redis = Redis::start_with(&options(program).with_user("reeltime", "right", ["~*", "&*", "+@all"]));
    for (login, password) in [("", "right"), ("reeltime:wrong@", "wrong"), ("nobody:right@", "right")] {
        let store = open(&redis.url().replace("://", &format!("://{login}"))).await;
        for _ in 0..2 {
            let said = unusable(store.create(&record(1)).await);
            assert!(said.contains("user and password of --state"), "{said}");
            assert!(
                !said.contains(password) || password == "wrong" && said.contains("WRONGPASS"),
                "no secrets: {said}"
            );
        }
        unusable(store.load().await);
        // Mended at the server, without a new --state.
        let user = if login.is_empty() { "default" } else { login.split(':').next().unwrap() };
        let rule = if login.is_empty() { "nopass".to_owned() } else { format!(">{password}") };
        redis.client().command(&["ACL", "SETUSER", user, "on", &rule, "~*", "&*", "+@all"]);
        eventually_usable(&store).await;
        store.forget(record(1).id, 3).await.unwrap();
        redis.client().command(&["ACL", "SETUSER", "default", "off"]);
    }
}

/// A refusal that was mended passes, although nobody could know that.
async fn eventually_usable(store: &Store) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = store.create(&record(1)).await {
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for the store to be usable: {error}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await; // between two attempts
    }
}

async fn a_user_who_may_too_little_is_named_until_he_may(program: RedisProgram) {
    let redis = Redis::start_with(&options(program).with_user("reeltime", "right", ["~*", "&*", "+@all"]));
    let store = open(&redis.url().replace("://", "://reeltime:right@")).await;
    store.create(&record(1)).await.unwrap();
    for command in ["hset", "evalsha", "hmget"] {
        redis.client().command(&["ACL", "SETUSER", "reeltime", &format!("-{command}")]);
        let said = unusable(note(&store, &record(1), 1).await);
        assert!(said.contains("ACL SETUSER"), "-{command}: {said}");
        redis.client().command(&["ACL", "SETUSER", "reeltime", &format!("+{command}")]);
        note(&store, &record(1), 1).await.expect("he may again, over the same connection");
    }
    redis.client().command(&["ACL", "SETUSER", "reeltime", "-sunion", "-hgetall"]);
    for said in [unusable(store.load().await), unusable(store.find(record(1).id).await)] {
        assert!(said.contains("ACL SETUSER"), "{said}");
    }
}

async fn a_user_with_other_keys_is_named_until_they_are_his(program: RedisProgram) {
    let rules = ["~other:*", "&*", "+@all"];
    let redis = Redis::start_with(&options(program).with_user("reeltime", "right", rules));
    let store = open(&redis.url().replace("://", "://reeltime:right@")).await;
    for said in [unusable(store.create(&record(1)).await), unusable(store.load().await)] {
        assert!(said.contains("ACL SETUSER"), "{said}");
    }
    redis.client().command(&["ACL", "SETUSER", "reeltime", "~reeltime:*"]);
    store.create(&record(1)).await.unwrap();
}

async fn a_key_of_another_type_is_named_until_it_is_gone(program: RedisProgram) {
    let (redis, store) = begun(&options(program)).await;
    let (id, client) = (record(2).id, redis.client());
    let says = |said: String| assert!(said.contains("?prefix="), "{said}");
    for key in ["reeltime:streams:active".to_owned(), format!("reeltime:stream:{id}:meta")] {
        client.command(&["RENAME", "reeltime:streams:active", "aside"]);
        client.command(&["SET", &key, "another program's"]);
        says(unusable(store.create(&record(2)).await));
        if key.ends_with("active") {
            says(unusable(store.load().await));
        } else {
            says(unusable(store.find(id).await));
        }
        assert_eq!(client.command(&["GET", &key]).text(), "another program's");
        client.command(&["DEL", &key]);
        client.command(&["RENAME", "aside", "reeltime:streams:active"]);
        // A script that failed in its middle had done its first half.
        store.create(&record(2)).await.unwrap();
        assert_eq!(Book::of(&redis).faults(), Vec::<String>::new());
        store.forget(id, 3).await.unwrap();
    }
    let parts = format!("reeltime:stream:{}:parts", record(1).id);
    client.command(&["DEL", &parts]);
    client.command(&["SET", &parts, "another program's"]);
    says(unusable(note(&store, &record(1), 1).await));
    says(unusable(store.load_parts(record(1).id, 1).await));
    client.command(&["DEL", &parts]);
    note(&store, &record(1), 1).await.unwrap();
    works(&redis, &store).await;
}

async fn what_was_changed_by_hand_is_named_until_it_is_gone(program: RedisProgram) {
    let (redis, store) = begun(&options(program)).await;
    let id = record(1).id;
    let (meta, parts) = (format!("reeltime:stream:{id}:meta"), format!("reeltime:stream:{id}:parts"));
    for (key, field, value) in [
        (&meta, "generation", "many"),
        (&meta, "size_bytes", "-1"),
        (&meta, "upload", "closed"),
        (&meta, "source", ""),
        (&parts, "0", "{}"),
        (&parts, "2", "{\"generation\":1"),
    ] {
        let was = redis.client().hash(key).get(field).cloned();
        redis.client().command(&["HSET", key, field, value]);
        let answer = if key == &parts {
            store.load_parts(id, 1).await.map(|_| ())
        } else if value.is_empty() {
            redis.client().command(&["HDEL", key, field]);
            store.find(id).await.map(|_| ())
        } else {
            store.load().await.map(|_| ())
        };
        let said = unusable(answer);
        assert!(said.contains(key.as_str()) && said.contains("redis-cli"), "{field}: {said}");
        match was {
            Some(was) => redis.client().command(&["HSET", key, field, &was]),
            None => redis.client().command(&["HDEL", key, field]),
        };
        assert_eq!(store.load_parts(id, 1).await.unwrap().iter().count(), 1);
        assert_eq!(store.load().await.unwrap().len(), 1);
    }
}

async fn a_redis_without_scripts_or_without_that_database_is_refused(program: RedisProgram) {
    let redis = Redis::start_with(&options(program).with(["--rename-command", "EVALSHA", ""]));
    let said = unusable(open(&redis.url()).await.create(&record(1)).await);
    assert!(said.contains("Redis 6.2 or newer"), "{said}");
    let said = unusable(open(&format!("{}/99", redis.url())).await.load().await);
    assert!(said.contains("database"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_addressed_as_a_server_is_told_from_one() {
    let cluster = RedisCluster::start();
    let mut said = Vec::new();
    for node in cluster.masters() {
        let store = open(&node.url()).await;
        said.extend((1..=6).filter_map(|number| {
            let answer = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(store.create(&record(number)))
            });
            answer.is_err().then(|| unusable(answer))
        }));
    }
    assert!(!said.is_empty());
    assert!(said.iter().all(|said| said.contains("redis+cluster://")), "{said:?}");
}
