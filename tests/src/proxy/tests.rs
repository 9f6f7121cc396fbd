//! The proxy in front of an echo server: each fault happens, at about its rate, and nothing else does.

use super::*;

/// Sends back what it gets, until it gets an empty datagram.
struct Echo {
    address: SocketAddr,
    thread: Option<JoinHandle<u64>>,
}

impl Echo {
    fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            let mut count = 0;
            loop {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                if length == 0 {
                    return count;
                }
                count += 1;
                socket.send_to(&buffer[..length], from).unwrap();
            }
        });
        Self { address, thread: Some(thread) }
    }

    /// How many datagrams came in all.
    fn end(mut self) -> u64 {
        UdpSocket::bind(("127.0.0.1", 0)).unwrap().send_to(&[], self.address).unwrap();
        self.thread.take().unwrap().join().unwrap()
    }
}

struct Client(UdpSocket);

impl Client {
    fn of(proxy: &Proxy) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        socket.connect(proxy.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(socket)
    }

    fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let length = self.0.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    /// Sends `count` numbered datagrams, 50 at a time, and returns what came back. After each 50 the faults
    /// are lifted, what is held back is let out, and a last datagram shows that nothing else will come.
    fn exchange(&self, proxy: &Proxy, way: Direction, faults: Faults, count: u32) -> Vec<Vec<u8>> {
        let mut came = Vec::new();
        let mut expected = proxy.counters(way).received;
        for batch in (0..count).collect::<Vec<_>>().chunks(50) {
            proxy.set(way, faults);
            for number in batch {
                self.0.send(&number.to_be_bytes()).unwrap();
            }
            expected += batch.len() as u64;
            if way == Direction::ToServer {
                wait_until(|| proxy.counters(way).received == expected);
            } else {
                // What comes back: every batch passes the other direction whole.
                wait_until(|| {
                    proxy.counters(Direction::ToServer).sent >= u64::from(batch[0]) + batch.len() as u64
                });
                wait_until(|| proxy.counters(way).received >= expected);
            }
            proxy.set(way, Faults::default());
            std::thread::sleep(HOLD + faults.delay + faults.jitter);
            self.0.send(b"end").unwrap();
            expected += 1;
            loop {
                match self.receive() {
                    end if end == b"end" => break,
                    datagram => came.push(datagram),
                }
            }
        }
        came
    }
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "not done within 10 s");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn numbers(datagrams: &[Vec<u8>]) -> Vec<u32> {
    datagrams.iter().map(|datagram| u32::from_be_bytes(datagram[..].try_into().unwrap())).collect()
}

const COUNT: u32 = 1_000;

/// Within four standard deviations of `rate` of 1000.
fn about(count: u64, rate: f64) -> bool {
    let (n, count) = (f64::from(COUNT), count as f64);
    (count - n * rate).abs() <= 4.0 * (n * rate * (1.0 - rate)).sqrt()
}

fn run(way: Direction, faults: Faults) -> (Vec<u32>, Counters) {
    let echo = Echo::start();
    let proxy = Proxy::with_seed(echo.address, 42);
    let came = Client::of(&proxy).exchange(&proxy, way, faults, COUNT);
    let counters = proxy.counters(way);
    let other = match way {
        Direction::ToServer => Direction::ToClient,
        Direction::ToClient => Direction::ToServer,
    };
    let other = proxy.counters(other);
    assert_eq!((other.lost, other.duplicated, other.reordered, other.corrupted), (0, 0, 0, 0));
    echo.end();
    (numbers(&came), counters)
}

#[test]
fn nothing_happens_at_rate_zero() {
    let (came, counters) = run(Direction::ToServer, Faults::default());
    assert_eq!(came, (0..COUNT).collect::<Vec<_>>());
    let ends = u64::from(COUNT / 50);
    let expected =
        Counters { received: u64::from(COUNT) + ends, sent: u64::from(COUNT) + ends, ..Counters::default() };
    assert_eq!(counters, expected);
}

#[test]
fn datagrams_are_lost_at_about_the_rate_in_either_direction() {
    for way in [Direction::ToServer, Direction::ToClient] {
        let (came, counters) = run(way, Faults { loss: 0.3, ..Faults::default() });
        assert_eq!(came.len() as u64 + counters.lost, u64::from(COUNT));
        assert!(about(counters.lost, 0.3), "{counters:?}");
        assert!(came.is_sorted(), "loss alone keeps the order");
    }
}

#[test]
fn datagrams_are_duplicated_at_about_the_rate() {
    let (came, counters) = run(Direction::ToClient, Faults { duplication: 0.1, ..Faults::default() });
    let twice = came.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
    assert_eq!((twice, came.len() as u64), (counters.duplicated, u64::from(COUNT) + twice));
    assert!(about(twice, 0.1), "{counters:?}");
}

#[test]
fn datagrams_are_overtaken_at_about_the_rate() {
    let (came, counters) = run(Direction::ToServer, Faults { reordering: 0.1, ..Faults::default() });
    assert!(about(counters.reordered, 0.1), "{counters:?}");
    let mut sorted = came.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..COUNT).collect::<Vec<_>>(), "none is lost or repeated");
    let overtaken =
        (0..came.len()).filter(|at| came[..*at].iter().any(|earlier| *earlier > came[*at])).count();
    // Those at the end of a burst are held back with nothing behind them.
    assert!(overtaken as u64 > counters.reordered * 3 / 4, "{overtaken} overtaken, {counters:?}");
}

#[test]
fn a_bit_is_flipped_at_about_the_rate() {
    let (came, counters) = run(Direction::ToClient, Faults { corruption: 0.2, ..Faults::default() });
    assert_eq!(came.len() as u32, COUNT);
    let flips: Vec<u32> = came.iter().zip(0..).map(|(number, sent)| (number ^ sent).count_ones()).collect();
    assert!(flips.iter().all(|bits| *bits <= 1));
    assert_eq!(flips.iter().filter(|bits| **bits == 1).count() as u64, counters.corrupted);
    assert!(about(counters.corrupted, 0.2), "{counters:?}");
}

#[test]
fn datagrams_are_late_by_delay_and_jitter() {
    let echo = Echo::start();
    let proxy = Proxy::with_seed(echo.address, 1);
    let client = Client::of(&proxy);
    let (delay, jitter) = (Duration::from_millis(30), Duration::from_millis(20));
    proxy.set(Direction::ToClient, Faults { delay, jitter, ..Faults::default() });
    let mut times = Vec::new();
    for _ in 0..10 {
        let sent = Instant::now();
        client.0.send(b"x").unwrap();
        client.receive();
        times.push(sent.elapsed());
    }
    assert!(times.iter().all(|time| *time >= delay), "{times:?}");
    assert!(times.iter().any(|time| *time >= delay + jitter / 4), "{times:?}");
    echo.end();
}

#[test]
fn a_cut_lets_nothing_through_until_it_is_healed() {
    let echo = Echo::start();
    let proxy = Proxy::with_seed(echo.address, 1);
    let client = Client::of(&proxy);
    for way in [Direction::ToServer, Direction::ToClient] {
        proxy.cut(way);
        client.0.send(b"lost").unwrap();
        wait_until(|| proxy.counters(way).cut == 1);
        proxy.heal();
        client.0.send(b"back").unwrap();
        assert_eq!(client.receive(), b"back");
    }
    assert_eq!(echo.end(), 3, "only what was cut on the way to the server did not come there");
}

#[test]
fn each_client_has_an_address_of_its_own_behind_the_proxy() {
    let server = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let proxy = Proxy::with_seed(server.local_addr().unwrap(), 1);
    let clients = [Client::of(&proxy), Client::of(&proxy)];
    let mut buffer = [0; 16];
    let from: Vec<SocketAddr> = (clients.iter().enumerate())
        .map(|(i, client)| {
            client.0.send(&[i as u8]).unwrap();
            server.recv_from(&mut buffer).unwrap().1
        })
        .collect();
    assert_ne!(from[0], from[1]);
    for i in [1, 0] {
        server.send_to(&[i as u8], from[i]).unwrap();
        assert_eq!(clients[i].receive(), [i as u8]);
    }
}

#[test]
fn the_same_seed_does_the_same_again() {
    let faults = Faults { loss: 0.3, duplication: 0.1, ..Faults::default() };
    let (first, second) = (run(Direction::ToServer, faults), run(Direction::ToServer, faults));
    assert_eq!(first, second);
}

#[test]
fn a_client_that_is_moved_has_another_address_and_the_old_one_too() {
    let server = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap());
    let client = Client::of(&proxy);
    let address = || {
        client.0.send(b"hello").unwrap();
        server.recv_from(&mut [0; 16]).unwrap().1
    };
    let [old, same] = [address(), address()];
    proxy.move_clients();
    let new = address();
    assert!(old == same && old != new, "{old}, {same}, {new}");
    for address in [old, new] {
        server.send_to(address.to_string().as_bytes(), address).unwrap();
        assert_eq!(client.receive(), address.to_string().as_bytes());
    }
}
