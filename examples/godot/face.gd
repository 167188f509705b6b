extends Node3D
## The microphone to KFusion, ARKit's coefficients back onto the blend shapes of a head.

@export var url := "ws://127.0.0.1:8765/v1/stream"

var socket := WebSocketPeer.new()
var capture := AudioEffectCapture.new()
var started := false
var names := PackedStringArray()
var queue: Array[PackedFloat32Array] = []  # frames that are not due yet
var due := 0.0
var meshes: Array[Node] = []


func _ready() -> void:
	var bus := AudioServer.bus_count
	AudioServer.add_bus()
	AudioServer.set_bus_mute(bus, true)
	AudioServer.set_bus_name(bus, "Microphone")
	capture.buffer_length = 1.0
	AudioServer.add_bus_effect(bus, capture)
	var player := AudioStreamPlayer.new()
	player.stream = AudioStreamMicrophone.new()
	player.bus = "Microphone"
	add_child(player)
	player.play()
	if ResourceLoader.exists("res://head.glb"):
		add_child((load("res://head.glb") as PackedScene).instantiate())
	meshes = find_children("*", "MeshInstance3D", true, false)
	socket.supported_protocols = PackedStringArray(["kfusion.v1"])
	socket.connect_to_url(url)


func _process(_delta: float) -> void:
	socket.poll()
	while socket.get_available_packet_count() > 0:
		var packet := socket.get_packet()
		if socket.was_string_packet():
			_hear(JSON.parse_string(packet.get_string_from_utf8()))
		else:
			_take(packet)
	if socket.get_ready_state() == WebSocketPeer.STATE_OPEN:
		if not started:
			started = true
			var audio := {"rate": int(AudioServer.get_mix_rate()), "format": "s16le"}
			socket.send_text(JSON.stringify({"type": "start", "audio": audio,
					"encoding": "binary", "outputs": ["arkit52"], "life": 0.6}))
		elif not names.is_empty():
			_speak(capture.get_buffer(capture.get_frames_available()))
	var now := Time.get_ticks_msec() / 1000.0
	while queue.size() > 9:  # more than 0.3 s behind: passed over
		queue.pop_front()
	if not queue.is_empty() and now >= due:
		due = maxf(due + 1.0 / 30.0, now - 1.0 / 30.0)
		_show(queue.pop_front())


func _hear(message: Dictionary) -> void:
	if message["type"] == "ready":
		names = PackedStringArray(message["outputs"]["arkit52"])
		capture.clear_buffer()
	elif message["type"] == "error":
		push_error(message["message"])


func _take(packet: PackedByteArray) -> void:
	var values := packet.slice(24).to_float32_array()  # after the header
	for k in packet.decode_u16(6):  # how many frames it holds
		queue.append(values.slice(k * names.size(), (k + 1) * names.size()))


func _speak(sound: PackedVector2Array) -> void:
	if sound.is_empty():
		return
	var pcm := PackedByteArray()
	pcm.resize(2 * sound.size())
	for i in sound.size():
		pcm.encode_s16(2 * i, int(clampf(sound[i].x, -1.0, 1.0) * 32767.0))
	socket.send(pcm)


func _show(values: PackedFloat32Array) -> void:
	for mesh: MeshInstance3D in meshes:
		for i in names.size():
			var shape := mesh.find_blend_shape_by_name(names[i])
			if shape >= 0:
				mesh.set_blend_shape_value(shape, values[i])
	if meshes.is_empty():
		print("jawOpen %.2f" % values[names.find("jawOpen")])
