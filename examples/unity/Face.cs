// The microphone to KFusion, ARKit's coefficients back onto the blend shapes of a head.
// Put it on any object and give it the head's SkinnedMeshRenderer.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Net.WebSockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using UnityEngine;

public class Face : MonoBehaviour
{
    [Serializable] class Outputs { public string[] arkit52; }
    [Serializable] class Message { public string type, message; public Outputs outputs; }

    public string url = "ws://127.0.0.1:8765/v1/stream";
    public SkinnedMeshRenderer head;

    const int Rate = 16000;
    readonly ClientWebSocket socket = new ClientWebSocket();
    readonly CancellationTokenSource closing = new CancellationTokenSource();
    readonly Queue<float[]> queue = new Queue<float[]>(); // frames that are not due yet
    int[] shapes; // of each coefficient, -1 where the head has none
    float due;

    async void Start()
    {
        try
        {
            socket.Options.AddSubProtocol("kfusion.v1");
            await socket.ConnectAsync(new Uri(url), closing.Token);
            AudioClip clip = Microphone.Start(null, true, 1, Rate);
            string audio = $"\"rate\":{Rate},\"channels\":{clip.channels},\"format\":\"f32le\"";
            string start = "{\"type\":\"start\",\"audio\":{" + audio + "},"
                + "\"encoding\":\"binary\",\"outputs\":[\"arkit52\"],\"life\":0.6}";
            await Send(Encoding.UTF8.GetBytes(start), WebSocketMessageType.Text);
            await Task.WhenAll(Listen(), Speak(clip));
        }
        catch (OperationCanceledException) { } // the object is gone
        catch (WebSocketException error) { Debug.LogError(error.Message); }
    }

    Task Send(byte[] bytes, WebSocketMessageType type) =>
        socket.SendAsync(new ArraySegment<byte>(bytes), type, true, closing.Token);

    async Task Speak(AudioClip clip)
    {
        while (shapes == null) await Task.Yield(); // once a frame of the game
        int read = Microphone.GetPosition(null);
        for (; socket.State == WebSocketState.Open; await Task.Yield())
        {
            int fresh = (Microphone.GetPosition(null) - read + clip.samples) % clip.samples;
            if (fresh == 0) continue;
            var sound = new float[fresh * clip.channels];
            clip.GetData(sound, read); // goes on at the clip's start
            var bytes = new byte[4 * sound.Length];
            Buffer.BlockCopy(sound, 0, bytes, 0, bytes.Length);
            read = (read + fresh) % clip.samples;
            await Send(bytes, WebSocketMessageType.Binary);
        }
    }

    async Task Listen()
    {
        var packet = new byte[1 << 20]; // no message is longer
        for (int length = 0; socket.State == WebSocketState.Open;)
        {
            var rest = new ArraySegment<byte>(packet, length, packet.Length - length);
            WebSocketReceiveResult got = await socket.ReceiveAsync(rest, closing.Token);
            length += got.Count;
            if (!got.EndOfMessage) continue;
            if (got.MessageType == WebSocketMessageType.Binary) Take(packet);
            else if (length > 0) Hear(Encoding.UTF8.GetString(packet, 0, length));
            length = 0;
        }
    }

    void Hear(string text)
    {
        var message = JsonUtility.FromJson<Message>(text);
        if (message.type == "error") Debug.LogError(message.message);
        if (message.type != "ready") return;
        Mesh mesh = head.sharedMesh; // whose "blendShape1.jawOpen" too is jawOpen
        var all = Enumerable.Range(0, mesh.blendShapeCount).Select(mesh.GetBlendShapeName).ToList();
        shapes = Array.ConvertAll(message.outputs.arkit52,
            name => all.FindIndex(shape => shape.EndsWith(name)));
    }

    void Take(byte[] packet)
    {
        for (int k = 0; k < BitConverter.ToUInt16(packet, 6); k++) // frames, after 24 bytes
        {
            var values = new float[shapes.Length];
            Buffer.BlockCopy(packet, 24 + 4 * k * shapes.Length, values, 0, 4 * shapes.Length);
            queue.Enqueue(values);
        }
    }

    void Update()
    {
        while (queue.Count > 9) queue.Dequeue(); // more than 0.3 s behind: passed over
        if (queue.Count == 0 || Time.unscaledTime < due) return;
        due = Mathf.Max(due + 1f / 30, Time.unscaledTime - 1f / 30);
        float[] frame = queue.Dequeue();
        for (int i = 0; i < shapes.Length; i++)
            if (shapes[i] >= 0) head.SetBlendShapeWeight(shapes[i], 100 * frame[i]);
    }

    void OnDestroy()
    {
        Microphone.End(null);
        closing.Cancel();
        socket.Dispose();
    }
}
