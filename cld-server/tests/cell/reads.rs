//! What is read is never stale, whoever answers.

use cldc_core::session::Handle;
use cldc_core::wire::EventMask;

use crate::client::Got;
use crate::world::World;
use crate::{ms, secs};

const ALL: [u64; 3] = [1, 2, 3];

/// A cell with a writer and a reader of one file.
fn cell(seed: u64) -> (World, [usize; 2], [Handle; 2]) {
    let mut world = World::new(seed, 3);
    let both = [world.join(&ALL, true), world.join(&ALL, true)];
    let files = both.map(|at| world.open(at, b"/file", EventMask::NONE));
    world.write(both[0], files[0], b"old");
    assert_eq!(world.read(both[1], files[1]), b"old");
    (world, both, files)
}

/// Lets the reader reach no other server than this one.
fn cut_off_reader(world: &mut World, reader: usize, master: u64) {
    world.unreachable = ALL.into_iter().filter(|&id| id != master).map(|id| (reader, id)).collect();
}

#[test]
fn a_master_paused_longer_than_its_lease_answers_nothing_old() {
    for seed in 0..20 {
        let (mut world, [writer, reader], [file, same]) = cell(seed);
        let (master, _) = world.await_master(secs(1));
        cut_off_reader(&mut world, reader, master);
        world.pause(master, secs(4));
        let put = world.put(writer, file, b"new");
        assert_eq!(world.answer(writer, put, secs(3)), Ok(Got::Done), "seed {seed}");
        // The first thing that the old master finds when it goes on, before any word of the others.
        world.run_until_before(master, ms(30));
        let get = world.get(reader, same);
        assert!(world.node(master).serves(), "it does not know that it is not");
        world.run(ms(200));
        assert_eq!(world.clients[reader].answer(get), None, "seed {seed}");
        world.unreachable.clear();
        assert_eq!(world.answer(reader, get, secs(10)), Ok(Got::Contents(b"new".to_vec())), "seed {seed}");
    }
}

#[test]
fn a_master_that_is_cut_off_answers_nothing_old() {
    for seed in 0..20 {
        let (mut world, [writer, reader], [file, same]) = cell(seed);
        let (master, _) = world.await_master(secs(1));
        cut_off_reader(&mut world, reader, master);
        world.isolate(&[master]);
        // It is awake only now and then, so that it does not find out by itself that it is alone.
        world.pause(master, ms(1900));
        let put = world.put(writer, file, b"new");
        assert_eq!(world.answer(writer, put, ms(1900)), Ok(Got::Done), "seed {seed}");
        world.run_until_before(master, ms(30));
        let get = world.get(reader, same);
        assert!(world.node(master).serves(), "it does not know that it is not");
        world.run(ms(200));
        assert_eq!(world.clients[reader].answer(get), None, "seed {seed}");
        world.unreachable.clear();
        world.heal();
        assert_eq!(world.answer(reader, get, secs(10)), Ok(Got::Contents(b"new".to_vec())), "seed {seed}");
    }
}

#[test]
fn reads_need_no_other_server_while_the_lease_stands() {
    let (mut world, [_, reader], [_, same]) = cell(1);
    let (master, _) = world.await_master(secs(1));
    world.isolate(&[master]);
    let get = world.get(reader, same);
    assert_eq!(world.answer(reader, get, ms(50)), Ok(Got::Contents(b"old".to_vec())));
}

#[test]
fn a_read_without_a_lease_waits_until_the_others_were_asked() {
    let (mut world, [_, reader], [_, same]) = cell(2);
    let (master, _) = world.await_master(secs(1));
    let to = ALL.into_iter().find(|&id| id != master).unwrap();
    // The hand-over fails, as the other one does not hear of it, and takes the lease with it for the rest of the term.
    world.crash(to);
    let clock = world.clock(master);
    world.node(master).transfer(clock, to).unwrap();
    world.drain(master);
    assert_eq!(world.node(master).status().lease_until, None);
    let get = world.get(reader, same);
    assert_eq!(world.answer(reader, get, secs(2)), Ok(Got::Contents(b"old".to_vec())));
    assert_eq!(world.node(master).status().lease_until, None);
    // Cut off from the last other server, it answers no more.
    world.isolate(&[master]);
    let get = world.get(reader, same);
    world.run(ms(300));
    assert_eq!(world.clients[reader].answer(get), None);
}
