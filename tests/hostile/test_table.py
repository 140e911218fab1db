"""What others crashed on, grew on or lost messages on, line by line, and the tests that show what happens here."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent


@dataclass(frozen=True)
class Line:
    """One kind of attack: what it is, the tests by file, or why there is no counterpart (yet)."""

    what: str
    tests: dict[str, tuple[str, ...]]
    without: str = ""


CLUSTER = "comes with the cluster"

LINES = {
    "A1": Line(
        "transports with the names of attributes, missing or repeated",
        {
            "hostile/test_handshakes.py": (
                "test_a_transport_of_any_other_name_is_unknown",
                "test_a_transport_of_any_other_name_is_unknown_to_a_connection_too",
            ),
        },
    ),
    "A2": Line(
        "sids with the names of attributes, empty, long, repeated, of another account",
        {
            "hostile/test_handshakes.py": (
                "test_a_sid_that_nobody_was_given_is_unknown",
                "test_a_sid_of_ten_kilobytes_is_unknown",
                "test_a_sid_given_twice_is_refused_even_when_both_are_right",
                "test_a_sid_with_one_character_changed_is_unknown",
                "test_a_sid_of_another_account_is_refused_and_its_owner_disturbed_by_nothing",
                "test_the_sid_of_a_websocket_opens_nothing_beside_it",
                "test_a_sid_is_long_random_and_different_each_time",
            ),
        },
    ),
    "A3": Line(
        "an upgrade to another protocol, and a reset",
        {
            "hostile/test_http_order.py": (
                "test_an_upgrade_to_h2c_and_a_reset_disturb_nobody",
                "test_a_websocket_request_without_its_upgrade_is_no_poll",
            ),
            "hostile/test_http_bodies.py": ("test_a_request_with_a_body_that_asks_for_h2c_is_served_as_it_is",),
            "hostile/test_handshakes.py": (
                "test_a_reset_behind_an_upgrade_to_h2c_ends_that_session_and_disturbs_nobody",
            ),
        },
    ),
    "A4": Line(
        "garbage behind a websocket handshake, in its segment, and during an upgrade",
        {
            "hostile/test_http_order.py": (
                "test_garbage_in_the_segment_of_the_handshake_ends_the_session_with_the_reason",
                "test_a_flood_while_a_handshake_is_decided_is_not_kept",
            ),
            "hostile/test_handshakes.py": ("test_garbage_on_a_websocket_that_takes_over_ends_it_alone",),
        },
    ),
    "A5": Line(
        "octet streams of protocol 4, repeated",
        {
            "hostile/test_packets.py": ("test_octet_streams_of_protocol_4_are_all_answered_and_end_that_session",),
            "transports/test_polling.py": ("test_an_octet_stream_ends_a_connection_of_protocol_4",),
        },
    ),
    "A6": Line(
        "huge, slow, endless and badly framed bodies",
        {
            "hostile/test_http_bodies.py": (
                "test_a_body_over_the_limit_gets_413_and_the_session_lives",
                "test_a_body_of_just_the_limit_is_taken",
                "test_a_slow_body_is_refused_after_body_timeout_and_the_session_ends",
                "test_what_has_no_end_around_the_chunks_is_refused",
                "test_tiny_chunks_weigh_no_more_than_their_bytes",
                "test_a_client_that_goes_away_inside_its_body_ends_its_session",
            ),
            "hostile/test_unfinished.py": (
                "test_of_posts_that_do_not_end_the_largest_gets_an_answer_and_its_session_ends",
                "test_heads_that_do_not_end_count_too",
            ),
            "hostile/test_http_front.py": ("test_a_malformed_head_is_refused_and_the_connection_ends",),
            "hostile/test_outer.py": (
                "test_a_slow_body_is_refused_by_us_and_ends_that_session",
                "test_a_body_over_the_limit_is_refused_by_us_and_the_session_lives",
                "test_a_body_with_broken_chunks_is_never_delivered",
            ),
        },
    ),
    "A7": Line(
        "origins with controls, null, foreign",
        {
            "hostile/test_identity.py": (
                "test_a_page_of_another_origin_is_refused_whatever_it_calls_itself",
                "test_an_origin_with_a_control_character_is_refused",
                "test_origins_that_were_seen_are_not_kept",
            ),
        },
    ),
    "A8": Line(
        "methods, with and without a sid",
        {
            "hostile/test_handshakes.py": (
                "test_a_handshake_by_another_method_is_refused",
                "test_a_connection_takes_get_and_post_alone_and_lives_on",
                "test_options_answers_browsers_and_opens_nothing",
                "test_a_method_that_is_none_is_refused",
            ),
            "hostile/test_http_front.py": (
                "test_the_answer_to_head_has_the_length_and_no_body",
                "test_head_on_the_stream_is_refused_without_a_body",
                "test_a_target_that_means_nothing_here_gets_the_answer_for_strangers",
            ),
        },
    ),
    "A9": Line(
        "odd queries and odd accounts",
        {
            "hostile/test_handshakes.py": (
                "test_a_protocol_that_is_not_offered_is_refused",
                "test_jsonp_is_refused_and_nothing_of_it_comes_back",
                "test_a_query_may_have_anything_beside_what_counts",
                "test_a_query_of_sixty_kilobytes_is_refused_before_it_is_read",
                "test_a_query_over_max_query_is_refused_by_a_handshake_and_by_a_connection",
                "test_a_query_of_more_than_a_hundred_parameters_is_refused",
                "test_a_query_over_the_limit_of_a_head_is_refused",
            ),
            "hostile/test_identity.py": (
                "test_an_account_that_is_not_usable_is_refused_with_the_reason",
                "test_an_account_of_fifty_kilobytes_is_refused",
                "test_accounts_of_any_odd_name_are_told_apart",
                "test_a_session_id_that_the_query_names_is_not_believed",
            ),
            "transports/test_upgrade.py": ("test_base64_by_websocket",),
        },
    ),
    "A10": Line(
        "fields of proxies, from who is none",
        {
            "hostile/test_identity.py": (
                "test_a_host_that_a_stranger_says_to_have_forwarded_lets_no_page_in",
                "test_an_address_that_a_stranger_says_to_have_forwarded_is_not_believed",
                "test_another_forwarded_address_with_each_handshake_does_not_get_past_the_limit_of_one",
            ),
        },
    ),
    "A11": Line(
        "GET and POST at the same time, aborted, byte by byte, never read",
        {
            "hostile/test_concurrency.py": (
                "test_a_second_poll_ends_that_session_and_every_poll_is_answered",
                "test_a_second_post_ends_that_session_and_nothing_of_both_is_delivered",
                "test_an_aborted_poll_ends_that_session",
                "test_a_post_aborted_halfway_ends_that_session_and_nothing_of_it_is_delivered",
                "test_a_body_that_comes_byte_by_byte_is_read_whole",
                "test_a_client_that_never_reads_the_answer_to_its_poll_misses_its_ping",
            ),
            "hostile/test_http_bodies.py": ("test_an_answer_that_nobody_takes_is_given_up",),
        },
    ),
    "A12": Line(
        "upgrades that go wrong",
        {
            "hostile/test_concurrency.py": (
                "test_of_many_websockets_for_one_sid_at_the_same_time_one_is_not_closed",
                "test_a_websocket_for_a_sid_that_has_one_is_closed",
                "test_a_websocket_that_begins_with_anything_but_the_probe_is_closed_alone",
                "test_a_probe_repeated_ten_thousand_times_is_answered_and_makes_nothing_grow",
                "test_a_websocket_that_falls_silent_is_closed_at_its_deadline_and_polling_lives",
                "test_websockets_that_come_and_go_beside_the_polling_leave_nothing",
                "test_a_session_that_ends_while_it_is_probed_ends_the_websocket_too",
                "test_a_ping_taken_by_polling_and_never_answered_ends_the_upgraded_session",
                "test_no_traffic_beside_the_pong_puts_the_deadline_off",
            ),
        },
    ),
    "A13": Line(
        "handshakes that never poll",
        {"hostile/test_handshakes.py": ("test_handshakes_that_never_poll_are_collected_at_their_deadline",)},
    ),
    "A14": Line(
        "everybody at once after a restart, with dead sids",
        {
            "hostile/test_handshakes.py": (
                "test_everybody_comes_back_at_once_after_a_restart_and_old_sids_are_unknown",
            ),
        },
    ),
    "A15": Line(
        "empty payloads, and payloads of too many packets",
        {
            "hostile/test_packets.py": (
                "test_of_a_body_with_anything_bad_nothing_is_delivered",
                "test_however_many_packets_one_body_has_they_are_delivered_in_order",
                "test_a_body_over_the_limit_is_refused_whole_and_the_session_lives",
            ),
        },
    ),
    "A16": Line(
        "packets of unknown types, bad base64, empty frames",
        {
            "hostile/test_packets.py": (
                "test_of_a_body_with_anything_bad_nothing_is_delivered",
                "test_binary_messages_of_nothing_are_messages",
                "test_a_packet_that_is_not_for_an_open_websocket_ends_that_session",
            ),
            "hostile/test_concurrency.py": (
                "test_a_websocket_that_begins_with_anything_but_the_probe_is_closed_alone",
            ),
        },
    ),
    "A17": Line(
        "packets that a client may not send there, and floods of those that it may",
        {
            "hostile/test_packets.py": (
                "test_a_packet_that_is_not_for_an_open_websocket_ends_that_session",
                "test_a_close_packet_ends_that_session_at_once",
                "test_packets_without_a_meaning_are_ignored",
                "test_a_flood_of_pongs_makes_nothing_grow_and_does_not_put_the_ping_off",
                "test_a_flood_of_pings_of_protocol_3_is_bounded_like_all_that_waits",
            ),
        },
    ),
    "A18": Line(
        "lengths of protocol 3 that are none",
        {
            "hostile/test_packets.py": ("test_of_a_body_of_protocol_3_with_anything_bad_nothing_is_delivered",),
            "transports/test_polling.py": ("test_lengths_of_protocol_3_are_utf_16_units",),
        },
    ),
    "A19": Line(
        "bytes that are no text, and text that has to travel as it is",
        {
            "hostile/test_packets.py": (
                "test_of_a_body_with_anything_bad_nothing_is_delivered",
                "test_any_text_comes_back_as_it_went",
                "test_a_separator_inside_a_message_splits_it_on_polling_and_is_no_json_on_a_websocket",
                "test_a_raw_text_with_a_separator_cannot_forge_packets_for_others",
            ),
            "hostile/test_frames.py": ("test_a_forbidden_frame_ends_that_session_with_code_and_reason",),
        },
    ),
    "A20": Line(
        "JSON that is deep, long, odd or none",
        {
            "hostile/test_messages.py": (
                "test_what_is_no_envelope_is_told_in_its_kind_and_the_next_message_is_handled",
                "test_nesting_as_deep_as_can_be_is_refused_or_handled_and_raises_nothing",
                "test_numbers_out_of_any_range_are_refused_with_an_answer",
                "test_names_of_python_and_javascript_are_keys_like_any_other",
                "test_of_a_key_given_twice_the_last_one_counts_as_in_javascript",
                "test_a_message_of_ten_thousand_elements_is_handled_and_one_more_is_not",
                "test_what_is_no_messagepack_is_told_in_its_kind",
            ),
        },
    ),
    "A21": Line(
        "websocket frames that are forbidden, endless or compressed bombs",
        {
            "hostile/test_frames.py": (
                "test_a_forbidden_frame_ends_that_session_with_code_and_reason",
                "test_a_forbidden_frame_ends_that_session_under_any_server",
                "test_a_message_of_the_limit_is_taken_and_one_byte_more_ends_that_session",
                "test_fragments_of_one_byte_without_end_weigh_what_they_carry",
                "test_empty_fragments_without_end_weigh_nothing",
                "test_fragments_are_refused_as_soon_as_they_are_too_large_together",
                "test_what_comes_without_end_does_not_keep_a_session_that_answers_no_ping",
                "test_a_flood_of_pings_is_answered_and_delays_nobody_for_ever",
                "test_a_bomb_ends_that_session_before_it_is_large",
                "test_compressed_messages_that_are_none_end_that_session",
            ),
            "standalone/test_stream.py": ("test_a_client_that_floods_pings_and_reads_nothing_makes_nothing_grow",),
        },
    ),
    "A22": Line(
        "events whose name is no text",
        {
            "hostile/test_messages.py": (
                "test_an_event_whose_name_is_no_text_is_refused_with_an_answer",
                "test_what_is_no_envelope_is_told_in_its_kind_and_the_next_message_is_handled",
                "test_a_message_that_is_an_object_without_an_event_is_the_event_message_alone",
            ),
        },
    ),
    "A23": Line(
        "events named like those of the server",
        {
            "hostile/test_messages.py": (
                "test_an_event_of_any_name_without_a_validator_is_refused_and_calls_nobody",
                "test_an_event_may_be_named_like_one_of_the_server_and_is_kept_apart_from_it",
                "test_refused_messages_in_a_row_end_the_connection_with_the_reason",
            ),
        },
    ),
    "A24": Line("attachments that are not there", {}, "messages have no attachments: binary data travels in itself"),
    "A25": Line("headers with too many attachments", {}, "messages have no attachments: binary data travels in itself"),
    "A26": Line(
        "ids of answers: odd, unknown, repeated, of another session",
        {
            "hostile/test_answers.py": (
                "test_an_id_that_is_none_makes_a_message_invalid",
                "test_ids_at_the_ends_of_their_range_come_back",
                "test_an_answer_that_nobody_waits_for_is_counted_and_dropped",
                "test_an_answer_counts_for_the_session_that_was_called_and_once",
                "test_an_answer_that_is_none_is_refused_and_the_call_waits_on",
                "test_a_client_that_answers_no_call_lets_each_run_out_and_leaves_nothing",
            ),
        },
    ),
    "A27": Line(
        "namespaces without end, events before they are joined", {}, "a connection has one session and no namespaces"
    ),
    "A28": Line(
        "rooms named like the session of another, of odd characters, without number, and asked for without end",
        {
            "hostile/test_identity.py": (
                "test_an_account_named_like_the_session_or_sid_of_another_hears_nothing_of_that",
                "test_accounts_of_any_odd_name_are_told_apart",
            ),
            "hostile/test_channels.py": (
                "test_every_character_in_a_name_is_taken_as_it_is_or_refused",
                "test_bytes_that_are_no_text_are_no_name",
                "test_ten_thousand_channels_on_a_node_are_served_and_leave_nothing",
                "test_a_session_is_in_128_channels_and_in_no_129th",
                "test_a_position_that_nobody_was_told_gets_a_gap_and_no_history",
                "test_a_position_that_is_none_is_refused",
                "test_a_position_that_cannot_be_decoded_gets_no_answer",
                "test_who_asks_for_history_a_thousand_times_a_second_gets_it_at_its_pace",
            ),
        },
    ),
    "A29": Line("messages on the bus that are none", {}, CLUSTER),
    "A30": Line("a registry that is frozen, gone, emptied or slow", {}, CLUSTER),
    "A31": Line("two servers that claim one session", {}, CLUSTER),
    "A32": Line(
        "a consumer that does not read, and two hundred thousand messages",
        {
            "hostile/test_floods.py": (
                "test_two_hundred_thousand_messages_to_clients_that_do_not_read_are_bounded",
                "test_other_clients_of_the_same_account_are_served_beside_a_slow_one",
            ),
            "hostile/test_slow_clients.py": (
                "test_a_client_that_takes_nothing_is_closed_at_the_limit",
                "test_when_all_is_too_much_the_largest_is_closed_and_the_others_get_theirs",
                "test_tiny_messages_count_for_what_they_weigh",
            ),
        },
    ),
    "clients that do not read, poll or answer, and networks that fail": Line(
        "bounded by bytes and by deadlines, closed with a reason, counted, their memory back",
        {
            "hostile/test_slow_clients.py": (
                "test_a_client_that_takes_nothing_is_closed_at_the_limit",
                "test_a_client_that_never_polls_is_told_of_its_end_when_it_does",
                "test_a_websocket_that_was_to_take_over_is_closed_with_the_code",
                "test_the_newest_message_alone_never_closes",
                "test_messages_behind_one_over_the_limit_close",
                "test_a_client_that_catches_up_in_time_gets_all_in_order",
            ),
            "hostile/test_silent_clients.py": (
                "test_a_client_that_polls_and_never_answers_a_ping_is_given_up",
                "test_a_websocket_that_answers_nothing_is_given_up_and_cut_off",
                "test_a_client_that_never_polls_again_is_given_up",
                "test_a_client_that_the_network_has_lost_is_given_up_and_nothing_of_it_stays",
                "test_what_is_kept_for_clients_that_never_fetch_it_is_gone_after_a_heartbeat",
            ),
        },
    ),
    "applications that flood their own targets": Line(
        "the flood is bounded per receiver",
        {
            "hostile/test_floods.py": (
                "test_a_flood_in_one_tick_is_bounded_for_a_client_that_reads_too",
                "test_a_flood_that_waits_now_and_then_reaches_a_client_that_reads",
                "test_a_client_that_floods_a_handler_that_waits_is_read_no_further",
            ),
            "hostile/test_slow_clients.py": (
                "test_when_a_fan_out_is_too_much_for_all_clients_are_closed_until_it_fits",
                "test_who_hears_that_a_client_is_slow_may_send_to_it_again",
            ),
        },
    ),
}

#: What the outer server decides of these lines when ours is an ASGI application, and the tests that show it.
OUTER = {
    "A3": ("what happens to other upgrades", ()),
    "A4": ("how bytes that are no frames are answered, without an error here", ()),
    "A6": (
        "the framing, size and deadline of a head, and the framing of a body; size and deadline of a body are ours",
        (
            "test_heads_that_http_forbids_raise_nothing_here_and_open_nothing",
            "test_the_size_of_a_head_is_limited_by_the_outer_server_alone",
        ),
    ),
    "A7": ("what a field may contain", ()),
    "A8": ("which methods HTTP has", ()),
    "A9": ("how long a query may be", ("test_the_size_of_a_head_is_limited_by_the_outer_server_alone",)),
    "A10": (
        "whose X-Forwarded-For and -Proto are believed",
        ("test_the_outer_server_decides_whose_forwarded_address_is_believed",),
    ),
    "A11": ("how long an answer may wait for its client, and how many requests are read ahead", ()),
    "A19": ("how websocket text that is not UTF-8 is refused", ()),
    "A21": (
        "frames, fragments, pings and compression, up to a size of its own; `max_payload` holds for whole messages",
        ("test_the_outer_server_compresses_and_inflates_within_its_own_limit",),
    ),
}


def names_in(file: Path) -> set[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse(file.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {each.name for each in tree.body if isinstance(each, kinds) and each.name.startswith("test_")}


def test_every_line_has_its_place_in_the_table() -> None:
    assert [name for name in LINES if name[0] == "A"] == [f"A{number}" for number in range(1, 33)]
    assert set(OUTER) <= set(LINES)


@pytest.mark.parametrize("name", LINES)
def test_every_line_has_tests_that_exist_or_the_reason_why_not(name: str) -> None:
    line = LINES[name]
    assert line.tests or line.without
    for file, named in line.tests.items():
        assert named
        assert set(named) - names_in(TESTS / file) == set()


@pytest.mark.parametrize("name", OUTER)
def test_what_the_outer_server_decides_is_shown_by_tests_that_exist(name: str) -> None:
    what, named = OUTER[name]
    assert what
    assert set(named) - names_in(TESTS / "hostile/test_outer.py") == set()
