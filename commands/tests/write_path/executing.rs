//! Executing commands: receipts, refusals, races, repetition.

use std::time::Duration;

use commands::{Call, Dispatcher, Error};
use domain::tenant::{Slug, Tenant, TenantCommand};
use domain::user::{User, UserCommand, UserRejection};
use domain::{Commit, Meta, TenantId, Text, UserId};

use crate::installation::{Installation, email, meta, register, rename, tenant, user};

#[tokio::test]
async fn a_receipt_names_the_record_in_the_log() {
    let installation = Installation::new().await;
    let (dispatcher, tenant, user) = (installation.dispatcher(), tenant(), user());
    let first = dispatcher
        .execute::<User>(
            &tenant,
            user.as_str(),
            register("ada@example.org"),
            meta("RegisterUser"),
        )
        .await
        .unwrap();
    let second = dispatcher
        .execute::<User>(&tenant, user.as_str(), rename("Ada L"), meta("UpdateUser"))
        .await
        .unwrap();
    assert!(second.position > first.position);
    assert_eq!((first.version, second.version), (1, 2));
    let commits = installation.commits(&tenant, &user).await;
    assert_eq!(
        commits
            .iter()
            .map(|commit| commit.first_version)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(commits[0].prev, None);
    assert_eq!(commits[1].prev, Some(Commit::hash(&commits[0].encode())));
    let loaded = installation
        .dispatcher()
        .load::<User>(&tenant, user.as_str(), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!((loaded.version, loaded.sequence), (2, second.position.sequence));
}

#[tokio::test]
async fn a_command_that_changes_nothing_answers_the_last_position() {
    let installation = Installation::new().await;
    let (dispatcher, tenant, user) = (installation.dispatcher(), tenant(), user());
    let id = user.as_str();
    dispatcher
        .execute::<User>(&tenant, id, register("ada@example.org"), meta("RegisterUser"))
        .await
        .unwrap();
    let changed = dispatcher
        .execute::<User>(&tenant, id, rename("B"), meta("UpdateUser"))
        .await
        .unwrap();
    let same = dispatcher
        .execute::<User>(&tenant, id, rename("B"), meta("UpdateUser"))
        .await
        .unwrap();
    assert_eq!(same, changed);
    assert_eq!(installation.commits(&tenant, &user).await.len(), 2);
}

#[tokio::test]
async fn an_address_belongs_to_one_user_until_it_is_given_back() {
    let installation = Installation::new().await;
    let (dispatcher, tenant, other_tenant) = (installation.dispatcher(), tenant(), tenant());
    let (ada, bob) = (user(), user());
    let run = async |tenant: &TenantId, user: &UserId, command| {
        dispatcher
            .execute::<User>(tenant, user.as_str(), command, meta("Test"))
            .await
    };
    run(&tenant, &ada, register("ada@example.org")).await.unwrap();
    let taken = run(&tenant, &bob, register("ADA@example.org")).await;
    assert!(matches!(taken, Err(Error::Taken { kind: "email" })), "{taken:?}");
    assert!(
        installation.commits(&tenant, &bob).await.is_empty(),
        "a refused command left a trace"
    );
    run(&other_tenant, &bob, register("ada@example.org"))
        .await
        .unwrap();
    let change = |address| UserCommand::Update {
        email: Some(email(address)),
        name: None,
        attributes: None,
    };
    run(&tenant, &ada, change("ada@example.net")).await.unwrap();
    run(&tenant, &bob, register("ada@example.org")).await.unwrap();
    let back = run(&tenant, &ada, change("ada@example.org")).await;
    assert!(matches!(back, Err(Error::Taken { kind: "email" })), "{back:?}");
}

#[tokio::test]
async fn of_many_that_race_for_one_slug_one_wins() {
    let installation = Installation::new().await;
    let platform = TenantId::platform();
    let provision = async |dispatcher: Dispatcher| {
        let id = tenant();
        let command = TenantCommand::Provision {
            id: id.clone(),
            name: Text::new("Acme").unwrap(),
            slug: Slug::try_from("acme".to_owned()).unwrap(),
            plan: None,
        };
        dispatcher
            .execute::<Tenant>(&platform, id.as_str(), command, meta("ProvisionTenant"))
            .await
    };
    let racers = (0..16).map(|_| provision(installation.dispatcher()));
    let results = futures::future::join_all(racers).await;
    let won = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1, "{results:?}");
    for result in results.into_iter().filter_map(Result::err) {
        assert!(matches!(result, Error::Taken { kind: "slug" }), "{result:?}");
    }
}

/// Two processes, one aggregate, hundreds of commands: nothing lost, doubled or reordered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_commands_of_two_processes_all_happen_once() {
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let dispatchers = [installation.dispatcher(), installation.dispatcher()];
    let id = user.as_str();
    dispatchers[0]
        .execute::<User>(&tenant, id, register("ada@example.org"), meta("Register"))
        .await
        .unwrap();
    let racers = (0..200).map(async |number: usize| {
        let command = rename(&format!("name {number}"));
        loop {
            match dispatchers[number % 2]
                .execute::<User>(&tenant, id, command.clone(), meta("Rename"))
                .await
            {
                Ok(receipt) => return receipt,
                Err(Error::Contended) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    let receipts = futures::future::join_all(racers).await;
    let mut positions: Vec<_> = receipts.iter().map(|receipt| receipt.position).collect();
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len(), 200);
    let commits = installation.commits(&tenant, &user).await;
    let versions: Vec<_> = commits.iter().map(|commit| commit.first_version).collect();
    assert_eq!(versions, (1..=201).collect::<Vec<_>>());
}

/// The cache of one process does not know what another did: its "no" must not be final.
#[tokio::test]
async fn a_rejection_is_never_said_on_the_caches_word_alone() {
    let installation = Installation::new().await;
    let (here, there, tenant, user) = (
        installation.dispatcher(),
        installation.dispatcher(),
        tenant(),
        user(),
    );
    let id = user.as_str();
    let early = here
        .execute::<User>(&tenant, id, rename("B"), meta("Rename"))
        .await;
    assert!(
        matches!(early, Err(Error::Rejected(UserRejection::NotFound))),
        "{early:?}"
    );
    there
        .execute::<User>(&tenant, id, register("ada@example.org"), meta("Register"))
        .await
        .unwrap();
    here.execute::<User>(&tenant, id, rename("B"), meta("Rename"))
        .await
        .unwrap();
}

#[tokio::test]
async fn that_a_new_aggregate_is_new_is_said_by_the_log() {
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let mut answers = Vec::new();
    for address in ["ada@example.org", "grace@example.org"] {
        // Nothing is remembered between the two: the second takes the user for new, too.
        let dispatcher = installation.dispatcher();
        let call = meta("RegisterUser");
        answers.push(
            dispatcher
                .execute::<User>(&tenant, user.as_str(), register(address), call)
                .await,
        );
    }
    assert_eq!(answers[0].as_ref().map(|receipt| receipt.version).unwrap(), 1);
    assert!(
        matches!(answers[1], Err(Error::Rejected(UserRejection::AlreadyRegistered))),
        "{:?}",
        answers[1]
    );
    assert_eq!(installation.commits(&tenant, &user).await.len(), 1);
    // The address that went with the refused registration is free.
    let other = crate::installation::user();
    let dispatcher = installation.dispatcher();
    dispatcher
        .execute::<User>(
            &tenant,
            other.as_str(),
            register("grace@example.org"),
            meta("RegisterUser"),
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn the_same_command_sent_again_happens_once() {
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let command = meta("Register");
    let first = installation
        .dispatcher()
        .execute::<User>(
            &tenant,
            user.as_str(),
            register("ada@example.org"),
            command.clone(),
        )
        .await
        .unwrap();
    // As after an unknown outcome: a fresh process knows only the command id.
    let again = installation
        .dispatcher()
        .execute::<User>(
            &tenant,
            user.as_str(),
            register("ada@example.org"),
            command.clone(),
        )
        .await;
    assert_eq!(again.unwrap(), first);
    // Known to be a repetition, it is answered what it was answered then, whatever has happened since.
    let dispatcher = installation.dispatcher();
    let other = rename("Grace");
    dispatcher
        .execute::<User>(&tenant, user.as_str(), other, meta("Rename"))
        .await
        .unwrap();
    for dispatcher in [dispatcher, installation.dispatcher()] {
        let call = Call {
            meta: command.clone(),
            repeated: true,
        };
        let again = dispatcher
            .execute::<User>(&tenant, user.as_str(), register("ada@example.org"), call)
            .await;
        assert_eq!(again.unwrap(), first);
    }
    assert_eq!(installation.commits(&tenant, &user).await.len(), 2);
}

/// Hundreds of calls of the same few commands, on two processes, each a repetition of the others: each happens once,
/// also where it is possible again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_repetitions_of_a_command_happen_once() {
    let installation = Installation::new().await;
    let (tenant, user) = (tenant(), user());
    let dispatchers = [installation.dispatcher(), installation.dispatcher()];
    let id = user.as_str();
    dispatchers[0]
        .execute::<User>(&tenant, id, register("ada@example.org"), meta("Register"))
        .await
        .unwrap();
    let commands: Vec<Meta> = (0..10).map(|_| meta("Rename")).collect();
    let racers = (0..300).map(async |number: usize| {
        let meta = commands[number % 10].clone();
        let command = rename(&format!("name {}", number % 10));
        loop {
            let call = Call {
                meta: meta.clone(),
                repeated: true,
            };
            match dispatchers[number / 10 % 2]
                .execute::<User>(&tenant, id, command.clone(), call)
                .await
            {
                Ok(receipt) => return (number % 10, receipt),
                Err(Error::Contended) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    let mut receipts = futures::future::join_all(racers).await;
    receipts.sort_by_key(|(command, receipt)| (*command, receipt.position));
    receipts.dedup();
    assert_eq!(receipts.len(), 10, "a command has two receipts: {receipts:?}");
    assert_eq!(installation.commits(&tenant, &user).await.len(), 11);
}
