//! What a server says (protocol.md 2.2), Hail's one-shot packets with their shifted footer included (1.3).

use cldc_core::wire::{Answer, Code, EventMask, InodeFlags, Metadata, Op};

use super::{Golden, Message};

pub(super) const GOLDEN: &[Golden] = &[
    Golden {
        name: "NEW_SESS succeeds",
        xid: 0x5eed0000000000f0,
        number: 0xfffffffffffffff0,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::NewSess, xid: 0xc0ffee0000000001, code: Code::Ok }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000f000000001
              00000000c0ffee0000000001
              f0ffffffffffffffae6c7ea2f9ca899fa191a6484ae3b92b4b02e1eb",
    },
    Golden {
        name: "NOP succeeds",
        xid: 0x5eed0000000000f1,
        number: 0xfffffffffffffff1,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::Nop, xid: 0xc0ffee0000000002, code: Code::Ok }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000f100000000
              00000000c0ffee0000000002
              f1ffffffffffffffbcbf1f0856c27e4896a338b7b67333626393beef",
    },
    Golden {
        name: "PUT succeeds",
        xid: 0x5eed0000000000f2,
        number: 0xfffffffffffffff2,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::Put, xid: 0xc0ffee0000000003, code: Code::Ok }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000f200000006
              00000000c0ffee0000000003
              f2ffffffffffffff186ef6d362970caaf60df2a93dc91601f89ca75c",
    },
    Golden {
        name: "CLOSE succeeds",
        xid: 0x5eed0000000000f3,
        number: 0xfffffffffffffff3,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::Close, xid: 0xc0ffee0000000004, code: Code::Ok }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000f300000007
              00000000c0ffee0000000004
              f3ffffffffffffffb18e60c572303873cee582b7c663658e9f4496f3",
    },
    Golden {
        name: "DEL succeeds",
        xid: 0x5eed0000000000f4,
        number: 0xfffffffffffffff4,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::Del, xid: 0xc0ffee0000000005, code: Code::Ok }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000f400000008
              00000000c0ffee0000000005
              f4ffffffffffffff1cf8abe85a5c59d88d6ea49cf06282464d9daeb7",
    },
    Golden {
        name: "LOCK succeeds",
        xid: 0x5eed0000000000f5,
        number: 0xfffffffffffffff5,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::Lock, xid: 0xc0ffee0000000006, code: Code::Ok }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000f500000009
              00000000c0ffee0000000006
              f5ffffffffffffffc999efa4f48dcd72e684cc536c9f3568b9c0820f",
    },
    Golden {
        name: "TRYLOCK succeeds",
        xid: 0x5eed0000000000f6,
        number: 0xfffffffffffffff6,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::TryLock, xid: 0xc0ffee0000000007, code: Code::Ok }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000f60000000b
              00000000c0ffee0000000007
              f6ffffffffffffff9ed78767573bac6f1e83895048b1af71e0749795",
    },
    Golden {
        name: "UNLOCK succeeds",
        xid: 0x5eed0000000000f7,
        number: 0xfffffffffffffff7,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::Unlock, xid: 0xc0ffee0000000008, code: Code::Ok }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000f70000000a
              00000000c0ffee0000000008
              f7ffffffffffffff64b0619f0c1c8c08cf2db0c9a8893e0b66fb07e9",
    },
    Golden {
        name: "END_SESS succeeds",
        xid: 0x5eed0000000000f8,
        number: 0xfffffffffffffff8,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::EndSess, xid: 0xc0ffee0000000009, code: Code::Ok }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000f80000000d
              00000000c0ffee0000000009
              f8ffffffffffffff9dba0dc3186d5542f0543aaef81736fed1f39e95",
    },
    Golden {
        name: "NEW_SESS fails: SessExists",
        xid: 0x5eed0000000000f9,
        number: 0xfffffffffffffff9,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::NewSess,
            xid: 0xc0ffee0000000021,
            code: Code::SessExists,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000f900000001
              00000001c0ffee0000000021
              f9ffffffffffffff8993396339ba5550ff44d8117c6d08d4f6112152",
    },
    Golden {
        name: "NOP fails: SessInval",
        xid: 0x5eed0000000000fa,
        number: 0xfffffffffffffffa,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::Nop,
            xid: 0xc0ffee0000000022,
            code: Code::SessInval,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000fa00000000
              00000002c0ffee0000000022
              faffffffffffffff9d27b0c38ef01777e8503495b318d72063e12f3a",
    },
    Golden {
        name: "OPEN fails: NameInval",
        xid: 0x5eed0000000000fb,
        number: 0xfffffffffffffffb,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::Open,
            xid: 0xc0ffee0000000023,
            code: Code::NameInval,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000fb00000002
              00000006c0ffee0000000023
              fbffffffffffffff6b5fb589ea4e429be7167b292639c4dc8440cba1",
    },
    Golden {
        name: "OPEN fails: InodeExists",
        xid: 0x5eed0000000000fc,
        number: 0xfffffffffffffffc,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::Open,
            xid: 0xc0ffee0000000024,
            code: Code::InodeExists,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000fc00000002
              0000000ec0ffee0000000024
              fcffffffffffffff95dc3c9de7e09a342ebfe1dfe7b45073f8305304",
    },
    Golden {
        name: "GET fails: FhInval",
        xid: 0x5eed0000000000fd,
        number: 0xfffffffffffffffd,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::Get, xid: 0xc0ffee0000000025, code: Code::FhInval }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000fd00000004
              00000008c0ffee0000000025
              fdffffffffffffff44d9b6d6949582fe3e9c71b75b6be374bee11be6",
    },
    Golden {
        name: "GET fails: TooLarge",
        xid: 0x5eed0000000000fe,
        number: 0xfffffffffffffffe,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::Get, xid: 0xc0ffee0000000026, code: Code::TooLarge }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000fe00000004
              00000040c0ffee0000000026
              feffffffffffffff721236f30463a6ad6c82ee965587b27c727bf873",
    },
    Golden {
        name: "GET_META fails: ModeInval",
        xid: 0x5eed0000000000ff,
        number: 0xffffffffffffffff,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::GetMeta,
            xid: 0xc0ffee0000000027,
            code: Code::ModeInval,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000ff00000003
              0000000dc0ffee0000000027
              ffffffffffffffff290057c84c90bffa530b01da1d2364e23123e3b0",
    },
    Golden {
        name: "PUT fails: InodeInval",
        xid: 0x5eed000000000000,
        number: 0x0,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::Put,
            xid: 0xc0ffee0000000028,
            code: Code::InodeInval,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000000000006
              00000005c0ffee0000000028
              0000000000000000043298efa2278cfb72034dfde2a3f097f9d55f4f",
    },
    Golden {
        name: "CLOSE fails: FhInval",
        xid: 0x5eed000000000001,
        number: 0x1,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::Close,
            xid: 0xc0ffee0000000029,
            code: Code::FhInval,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000100000007
              00000008c0ffee0000000029
              01000000000000007b81904974d751fddd85b71683946f658f04263b",
    },
    Golden {
        name: "DEL fails: DirNotEmpty",
        xid: 0x5eed000000000002,
        number: 0x2,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::Del,
            xid: 0xc0ffee000000002a,
            code: Code::DirNotEmpty,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000200000008
              0000000fc0ffee000000002a
              020000000000000087cb5593b1b2783d227fa6b6771a07a18b9fd508",
    },
    Golden {
        name: "LOCK fails: LockPending",
        xid: 0x5eed000000000003,
        number: 0x3,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::Lock,
            xid: 0xc0ffee000000002b,
            code: Code::LockPending,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000300000009
              0000000cc0ffee000000002b
              0300000000000000e63e82c3006743a8ed5bb317f22d9e8889aaa781",
    },
    Golden {
        name: "TRYLOCK fails: LockConflict",
        xid: 0x5eed000000000004,
        number: 0x4,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::TryLock,
            xid: 0xc0ffee000000002c,
            code: Code::LockConflict,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000040000000b
              0000000bc0ffee000000002c
              0400000000000000c8f395284639000c40a3b400361b36f6fb31ef95",
    },
    Golden {
        name: "UNLOCK fails: LockInval",
        xid: 0x5eed000000000005,
        number: 0x5,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::Unlock,
            xid: 0xc0ffee000000002d,
            code: Code::LockInval,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000050000000a
              0000000ac0ffee000000002d
              0500000000000000e7a1503ef26b85eda27c359acecccb161674cb00",
    },
    Golden {
        name: "END_SESS fails: DbErr",
        xid: 0x5eed000000000006,
        number: 0x6,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::EndSess,
            xid: 0xc0ffee000000002e,
            code: Code::DbErr,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed0000000000060000000d
              00000003c0ffee000000002e
              0600000000000000167bd8e994dbef4cda5f9148353ae9da0c226b33",
    },
    Golden {
        name: "OPEN fails: Limit",
        xid: 0x5eed000000000007,
        number: 0x7,
        shifted: false,
        message: Message::Answer(Answer::Done { op: Op::Open, xid: 0xc0ffee000000002f, code: Code::Limit }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000700000002
              00000041c0ffee000000002f
              070000000000000098066c9cf73d11be06e2f4be24bda94c82c23ba8",
    },
    Golden {
        name: "OPEN fails: Unknown(-7)",
        xid: 0x5eed000000000008,
        number: 0x8,
        shifted: false,
        message: Message::Answer(Answer::Done {
            op: Op::Open,
            xid: 0xc0ffee0000000030,
            code: Code::Unknown(-7),
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000800000002
              fffffff9c0ffee0000000030
              0800000000000000e27ebd95ba34669b0ff1dd1635b3cdab133b085e",
    },
    Golden {
        name: "OPEN succeeds",
        xid: 0x5eed000000000009,
        number: 0x9,
        shifted: false,
        message: Message::Answer(Answer::Opened { xid: 0xc0ffee0000000040, fh: 2 }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000900000002
              00000000c0ffee00000000400000000000000002
              090000000000000071dd5f7d555c59f7c96fc1106d70a1665ddfab65",
    },
    Golden {
        name: "GET of a file",
        xid: 0x5eed00000000000a,
        number: 0xa,
        shifted: false,
        message: Message::Answer(Answer::Contents {
            xid: 0xc0ffee0000000041,
            metadata: Metadata {
                inode: 0x7fffffff,
                version: 3,
                created: 1290000000,
                modified: 1290000060,
                flags: InodeFlags(0),
            },
            path: b"/ls/cell/leader",
            data: b"10.1.2.3:8081",
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000a00000004
              00000000c0ffee0000000041000000007fffffff0000000000000003000000004ce3d680000000004ce3d6bc0000
              00000000000f2f6c732f63656c6c2f6c6561646572000000000d31302e312e322e333a38303831000000
              0a00000000000000978a7f22cddc128fc3bc2757a7804594554968a0",
    },
    Golden {
        name: "GET_META of a file (the operation is GET)",
        xid: 0x5eed00000000000b,
        number: 0xb,
        shifted: false,
        message: Message::Answer(Answer::Contents {
            xid: 0xc0ffee0000000042,
            metadata: Metadata {
                inode: 0x33,
                version: 18446744073709551615,
                created: 1290000000,
                modified: 1290000060,
                flags: InodeFlags(0),
            },
            path: b"/f",
            data: b"",
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000b00000004
              00000000c0ffee00000000420000000000000033ffffffffffffffff000000004ce3d680000000004ce3d6bc0000
              0000000000022f66000000000000
              0b00000000000000f364ef4988a39c32a20533358b87eeaef6fb163f",
    },
    Golden {
        name: "GET of a directory",
        xid: 0x5eed00000000000c,
        number: 0xc,
        shifted: false,
        message: Message::Answer(Answer::Contents {
            xid: 0xc0ffee0000000043,
            metadata: Metadata {
                inode: 0xa,
                version: 4,
                created: 1290000000,
                modified: 1290000001,
                flags: InodeFlags(1),
            },
            path: b"/",
            data: b"\x01\x00a\0\0\0\0\0\x06\x00abcdef\x07\x00leader!\0\0\0\0\0\0\0",
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000c00000004
              00000000c0ffee0000000043000000000000000a0000000000000004000000004ce3d680000000004ce3d6810000
              0001000000012f000000000000200100610000000000060061626364656607006c65616465722100000000000000
              0c00000000000000e428e51458b1e4501e15a546d0c0f8b022b3e4a4",
    },
    Golden {
        name: "EVENT",
        xid: 0x5eed00000000000d,
        number: 0xd,
        shifted: false,
        message: Message::Answer(Answer::Event { fh: 2, events: EventMask::LOCKED }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000d00000010
              000000000000000200000004
              0d00000000000000a9f96097121f252ae62cb642d88459be7279ad04",
    },
    Golden {
        name: "PING",
        xid: 0x5eed00000000000e,
        number: 0xe,
        shifted: false,
        message: Message::Answer(Answer::Ping),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000e0000000e
              0e000000000000009cd7b18d431f2ba69d2e43f901ef926bff958df3",
    },
    Golden {
        name: "NOT_MASTER",
        xid: 0x5eed00000000000f,
        number: 0xdeadbeef,
        shifted: false,
        message: Message::Answer(Answer::NotMaster),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000f0000000f
              efbeadde000000001fee649b51dff75b6c3be742f908dd7e7e1330b9",
    },
    Golden {
        name: "ACK_FRAG",
        xid: 0x5eed00000000000f,
        number: 0xdeadbeef,
        shifted: false,
        message: Message::Answer(Answer::AckFrag { number: 0x8000000000000002 }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000f00000011
              8000000000000002
              efbeadde00000000464dc5e3349991039b69b838c28eee7353a4454a",
    },
    Golden {
        name: "NEW_SESS fails, shifted",
        xid: 0x5eed00000000000f,
        number: 0xdeadbeef,
        shifted: true,
        message: Message::Answer(Answer::Done {
            op: Op::NewSess,
            xid: 0xc0ffee0000000001,
            code: Code::SigInval,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000f00000001
              00000012c0ffee0000000001
              d01f3351697f0000efbeadde0000000074e8b744676473b3d2f8ce2b",
    },
    Golden {
        name: "NOP fails, shifted",
        xid: 0x5eed00000000000f,
        number: 0x8000000000000003,
        shifted: true,
        message: Message::Answer(Answer::Done {
            op: Op::Nop,
            xid: 0xc0ffee0000000003,
            code: Code::SessInval,
        }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000f00000000
              00000002c0ffee0000000003
              d01f3351697f00000300000000000080e837c9ea355280d770c4b28d",
    },
    Golden {
        name: "ACK fails, shifted",
        xid: 0x5eed00000000000f,
        number: 0xfffffffffffffff0,
        shifted: true,
        message: Message::Answer(Answer::Done { op: Op::Ack, xid: 0x0, code: Code::SessInval }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000f0000000c
              000000020000000000000000
              d01f3351697f0000f0ffffffffffffffd0bd2522a836b791e5bbed8d",
    },
    Golden {
        name: "PUT fails, shifted",
        xid: 0x5eed00000000000f,
        number: 0x8000000000000008,
        shifted: true,
        message: Message::Answer(Answer::Done { op: Op::Put, xid: 0xc0ffee0000000008, code: Code::BadPkt }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000f00000006
              00000004c0ffee0000000008
              d01f3351697f00000800000000000080bc6c7bee008cf4e9557f54e2",
    },
    Golden {
        name: "ACK_FRAG, shifted",
        xid: 0x5eed00000000000f,
        number: 0xdeadbeef,
        shifted: true,
        message: Message::Answer(Answer::AckFrag { number: 0x8000000000000002 }),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000f00000011
              8000000000000002
              d01f3351697f0000efbeadde000000003da52aa6a02bd9ed8d46ffec",
    },
    Golden {
        name: "NOT_MASTER, shifted",
        xid: 0x5eed00000000000f,
        number: 0xdeadbeef,
        shifted: true,
        message: Message::Answer(Answer::NotMaster),
        hex: "746b703163444c430123456789abcdef00000005616c696365000000000000035eed00000000000f0000000f
              d01f3351697f0000efbeadde0000000085493a4f84ba2e95ed392f23",
    },
];
