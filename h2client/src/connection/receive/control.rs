//! Frames without a message in them: priorities, resets, settings, pings, GOAWAY, windows.

use super::Done;
use crate::{
    Connection, ConnectionError, Event, Key, Reason, StreamError,
    connection::send,
    frame::{FrameHeader, MAX_31_BITS, MAX_PAYLOAD, flag, kind, number, setting},
    streams::Found,
};

impl Connection {
    pub(super) fn on_priority(&mut self, header: FrameHeader) -> Done {
        if header.stream == 0 {
            return Err(ConnectionError::protocol("PRIORITY of no stream"));
        }
        if header.length == 5 {
            return Ok(());
        }
        match self.streams.find(header.stream) {
            Found::There(key, stream) if !stream.is_over() => {
                self.malformed(key, StreamError::new(Reason::FRAME_SIZE_ERROR, "PRIORITY of a wrong length"));
                Ok(())
            }
            _ => Err(ConnectionError::size("PRIORITY of a wrong length")),
        }
    }

    pub(super) fn on_reset(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
        if header.length != 4 {
            return Err(ConnectionError::size("RST_STREAM of a wrong length"));
        }
        if header.stream == 0 {
            return Err(ConnectionError::protocol("RST_STREAM of no stream"));
        }
        match self.streams.find(header.stream) {
            Found::Idle => Err(ConnectionError::protocol("RST_STREAM of a stream that was not opened")),
            Found::There(key, stream) if !stream.is_over() => {
                self.streams.reset(key, false);
                self.return_grant(key);
                self.events.push_back(Event::Reset(key, Reason(number(payload))));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn on_settings(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
        if header.stream != 0 {
            return Err(ConnectionError::protocol("SETTINGS of a stream"));
        }
        if header.has(flag::ACK) {
            if header.length != 0 {
                return Err(ConnectionError::size("an acknowledgement of SETTINGS that has settings"));
            }
            // There is one to acknowledge.
            if std::mem::replace(&mut self.peer.has_acknowledged, true) {
                return Err(ConnectionError::protocol("an acknowledgement of SETTINGS that were not sent"));
            }
            return Ok(());
        }
        if !header.length.is_multiple_of(6) {
            return Err(ConnectionError::size("SETTINGS of a wrong length"));
        }
        for entry in payload.chunks_exact(6) {
            self.on_setting(u16::from_be_bytes([entry[0], entry[1]]), number(&entry[2..]))?;
        }
        self.peer.has_settings = true;
        self.reply(kind::SETTINGS, flag::ACK, 0, &[]);
        self.events.push_back(Event::Settings);
        Ok(())
    }

    fn on_setting(&mut self, id: u16, value: u32) -> Done {
        match id {
            setting::ENABLE_PUSH if value != 0 => {
                return Err(ConnectionError::protocol("SETTINGS_ENABLE_PUSH of a server"));
            }
            setting::MAX_CONCURRENT_STREAMS => self.peer.max_streams = value as usize,
            setting::INITIAL_WINDOW_SIZE => {
                let too_large = |what| ConnectionError::new(Reason::FLOW_CONTROL_ERROR, what);
                if value > MAX_31_BITS {
                    return Err(too_large("a window that is larger than any"));
                }
                let more = i64::from(value) - self.peer.first_window;
                self.peer.first_window = i64::from(value);
                for (key, stream) in self.streams.iter_mut() {
                    stream.send_window += more;
                    if stream.send_window > i64::from(MAX_31_BITS) {
                        return Err(too_large("SETTINGS that make a window larger than any"));
                    }
                    send::wake(&mut self.events, key, stream);
                }
            }
            setting::MAX_FRAME_SIZE => {
                if !(MAX_PAYLOAD as u32..1 << 24).contains(&value) {
                    return Err(ConnectionError::protocol("a size of frames that is not allowed"));
                }
                // Longer ones are of no use, since they hold up those of other streams.
                self.peer.max_payload = MAX_PAYLOAD;
            }
            // The dynamic table is not used; how large a list of fields is, is decided elsewhere.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn on_ping(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
        if header.stream != 0 {
            return Err(ConnectionError::protocol("PING of a stream"));
        }
        if header.length != 8 {
            return Err(ConnectionError::size("PING of a wrong length"));
        }
        if !header.has(flag::ACK) {
            self.reply(kind::PING, flag::ACK, 0, payload);
        }
        Ok(())
    }

    pub(super) fn on_go_away(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
        if header.stream != 0 {
            return Err(ConnectionError::protocol("GOAWAY of a stream"));
        }
        if header.length < 8 {
            return Err(ConnectionError::size("GOAWAY of a wrong length"));
        }
        let (last, reason) = (number(payload) & MAX_31_BITS, Reason(number(&payload[4..])));
        if last > self.peer.last {
            return Err(ConnectionError::protocol("GOAWAY that takes more streams than the one before"));
        }
        (self.peer.last, self.peer.is_leaving) = (last, true);
        self.events.push_back(Event::GoAway(reason));
        let refused: Vec<Key> = self.streams.keys().filter(|(id, _)| *id > last).map(|(_, key)| key).collect();
        for key in refused {
            if self.streams.get(key).is_some_and(|stream| !stream.is_over()) {
                self.streams.reset(key, true);
                self.return_grant(key);
                self.events.push_back(Event::Refused(key, reason));
            }
        }
        Ok(())
    }

    pub(super) fn on_window_update(&mut self, header: FrameHeader, payload: &[u8]) -> Done {
        if header.length != 4 {
            return Err(ConnectionError::size("WINDOW_UPDATE of a wrong length"));
        }
        let more = i64::from(number(payload) & MAX_31_BITS);
        let most = i64::from(MAX_31_BITS);
        if header.stream == 0 {
            if more == 0 {
                return Err(ConnectionError::protocol("WINDOW_UPDATE of nothing"));
            }
            self.send_window += more;
            let set_aside: i64 = self.streams.iter_mut().map(|(_, stream)| stream.granted).sum();
            if self.send_window + set_aside > most {
                return Err(ConnectionError::new(Reason::FLOW_CONTROL_ERROR, "a window that is larger than any"));
            }
            self.distribute();
            return Ok(());
        }
        let error = match self.streams.find(header.stream) {
            Found::Idle => return Err(ConnectionError::protocol("WINDOW_UPDATE of a stream that was not opened")),
            Found::There(key, stream) if !stream.is_over() => {
                stream.send_window += more;
                if more == 0 {
                    (key, StreamError::malformed("WINDOW_UPDATE of nothing"))
                } else if stream.send_window > most {
                    (key, StreamError::new(Reason::FLOW_CONTROL_ERROR, "a window that is larger than any"))
                } else {
                    send::wake(&mut self.events, key, stream);
                    return Ok(());
                }
            }
            _ => return Ok(()),
        };
        self.malformed(error.0, error.1);
        Ok(())
    }
}
